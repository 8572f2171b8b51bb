"""Wrong logins wait longer and longer; the right one is let in, and its connections are not delayed."""

import asyncio
import base64
import json
import os
import socket

import pytest

from alignflow.server import logins
from alignflow.server.logins import FREE, LONGEST_WAIT_S, MOST_KEPT, MOST_WAITING, Logins, account_name, user_of

LOGIN = "alignflow:s3cret"


class Clock:
    """A clock that moves as far as somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 1000.0, []

    def __call__(self):
        return self.now

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def guarded(clock):
    """The checks before an app that says 200 to everything."""

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            scope["heard"].append(await receive())
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return Logins(app, LOGIN, clock=clock, sleep=clock.sleep)


def basic(login):
    return b"Basic " + base64.b64encode(login if isinstance(login, bytes) else login.encode())


async def ask(guarded, *headers, client=("192.0.2.1", 1000)):
    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "path": "/api/flows/",
        "headers": [(b"authorization", value) for value in headers],
        "client": client,
        "server": ("x", 1),
    }
    await guarded(scope, None, send)
    return sent[0]["status"]


def statuses(guarded, *tries):
    async def all_of_them():
        return [await ask(guarded, *headers, client=client) for headers, client in tries]

    return asyncio.run(all_of_them())


def wrong(number, host="192.0.2.1"):
    return [((basic(f"alignflow:guess{n}"),), (host, 1000 + n)) for n in range(number)]


def test_the_right_login_passes_and_a_wrong_one_does_not(guarded, clock):
    assert statuses(
        guarded,
        ((basic(LOGIN),), ("192.0.2.1", 1)),
        ((basic("alignflow:s3cre"),), ("192.0.2.1", 2)),
        ((), ("192.0.2.1", 3)),
    ) == [200, 401, 200]
    assert clock.slept == []


@pytest.mark.parametrize(
    "header", [b"", b"Bearer x", b"Basic", b"Basic !!!", basic("ä:ö"), basic(b"\xff\xfe"), basic(LOGIN) + b"x"]
)
def test_a_header_that_is_no_login_is_a_wrong_one_and_no_error(guarded, header):
    assert statuses(guarded, ((header,), ("192.0.2.1", 1))) == [401]


@pytest.mark.parametrize("scheme", [b"basic", b"BASIC", b"bAsIc"])
def test_the_scheme_may_be_written_in_any_case_and_prefect_sees_it_as_it_expects_it(clock, scheme):
    seen = []

    async def app(scope, receive, send):
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    given = scheme + b"  " + basic(LOGIN).partition(b" ")[2]
    assert statuses(Logins(app, LOGIN, clock=clock, sleep=clock.sleep), ((given,), ("192.0.2.1", 1))) == [200]
    assert seen == [(b"authorization", basic(LOGIN))] and clock.slept == []


def test_two_headers_are_refused_whatever_the_first_says(guarded):
    assert statuses(guarded, ((basic(LOGIN), basic("x:y")), ("192.0.2.1", 1))) == [401]


def test_each_further_wrong_login_waits_twice_as_long_up_to_a_limit(guarded, clock):
    assert set(statuses(guarded, *wrong(12))) == {401}
    assert clock.slept[:4] == [0.25, 0.5, 1.0, 2.0] and len(clock.slept) == 12 - FREE
    assert set(clock.slept[4:]) == {LONGEST_WAIT_S}


def test_a_guess_that_is_right_is_not_told_sooner_than_a_wrong_one(guarded, clock):
    statuses(guarded, *wrong(12))
    before = len(clock.slept)
    assert statuses(guarded, ((basic(LOGIN),), ("192.0.2.1", 5000))) == [200]
    assert clock.slept[before:] == [LONGEST_WAIT_S]


def test_a_connection_that_gave_the_right_login_is_never_delayed(guarded, clock):
    mine = ((basic(LOGIN),), ("192.0.2.1", 7))
    statuses(guarded, mine, *wrong(12))
    before = len(clock.slept)
    assert statuses(guarded, mine, mine) == [200, 200] and len(clock.slept) == before


def test_another_address_is_hardly_delayed_by_it(guarded, clock):
    statuses(guarded, *wrong(100))
    before = len(clock.slept)
    assert statuses(guarded, ((basic(LOGIN),), ("192.0.2.9", 1))) == [200]
    assert sum(clock.slept[before:]) <= 1


def test_many_addresses_together_are_slowed_down_too(guarded, clock):
    statuses(guarded, *(((basic("a:b"),), (f"198.51.100.{n}", 1)) for n in range(60)))
    assert len(clock.slept) == 60 - logins.FREE_OVERALL


def test_an_address_that_kept_quiet_begins_anew(guarded, clock):
    statuses(guarded, *wrong(12))
    clock.now += logins.FORGOTTEN_AFTER_S + 1
    before = len(clock.slept)
    statuses(guarded, *wrong(1))
    assert len(clock.slept) == before


def test_tries_at_the_same_time_gain_nothing(guarded):
    statuses(guarded, *wrong(6))

    async def flood():
        return await asyncio.gather(*(ask(guarded, *headers, client=client) for headers, client in wrong(200)))

    answers = asyncio.run(flood())
    assert answers.count(401) == MOST_WAITING and answers.count(429) == 200 - MOST_WAITING


def test_memory_is_bounded(guarded, clock, monkeypatch):
    monkeypatch.setattr(logins, "FREE_OVERALL", 1 << 30)
    statuses(
        guarded, *(((basic("a:b"),), (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 1)) for n in range(MOST_KEPT + 500))
    )
    statuses(guarded, *(((basic(LOGIN),), ("10.0.0.1", n)) for n in range(MOST_KEPT + 500)))
    assert len(guarded._accounts) <= MOST_KEPT and len(guarded._proven) <= MOST_KEPT


def test_attempts_are_logged_with_their_address_and_without_the_password(guarded, capfd):
    statuses(guarded, *wrong(70))
    said = capfd.readouterr().err
    assert "192.0.2.1" in said and "number 64" in said and "guess" not in said and len(said.splitlines()) < 20


def hear(guarded, text, client=("192.0.2.1", 1)):
    heard = []

    async def receive():
        return {"type": "websocket.receive", "text": text}

    asyncio.run(
        guarded(
            {"type": "websocket", "headers": [], "client": client, "server": ("x", 1), "heard": heard}, receive, None
        )
    )
    return heard[0]["text"]


def test_a_websocket_is_checked_too(guarded, clock):
    right = json.dumps({"type": "auth", "token": LOGIN})
    assert hear(guarded, right) == right
    for n in range(12):
        assert (
            json.loads(hear(guarded, json.dumps({"type": "auth", "token": f"guess{n}"}), ("192.0.2.1", 10 + n)))[
                "token"
            ]
            == ""
        )
    assert clock.slept[-1] == LONGEST_WAIT_S
    for text in ("no json", "[]", '{"type": "auth"}', json.dumps({"type": "event"})):
        assert hear(guarded, text) == text, "left to Prefect"
    assert json.loads(hear(guarded, json.dumps({"type": "auth", "token": "\ud800"})))["token"] == ""


def test_addresses_are_counted_as_those_who_may_use_them():
    def name(host):
        return account_name({"client": (host, 1), "server": ("x", 2)})

    assert name("2001:db8::1") == name("2001:db8::ffff") == "2001:db8::/64"
    assert name("::ffff:192.0.2.1") == name("192.0.2.1") == "192.0.2.1"


def test_on_the_loopback_each_user_has_an_account_of_their_own():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as calling:
            mine = calling.getsockname()[1]
            found = user_of(mine, port)
            assert found in (os.getuid(), None) and (found is not None or not os.path.exists("/proc/net/tcp"))
            if found is not None:
                assert (
                    account_name({"client": ("127.0.0.1", mine), "server": ("127.0.0.1", port)})
                    == f"127.0.0.1 (user {found})"
                )
