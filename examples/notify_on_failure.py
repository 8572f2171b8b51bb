"""Have the server post a message to a web address when a flow run fails or crashes, or when one waits for a person.

    eval "$(alignflow status --environment)"
    python examples/notify_on_failure.py https://chat.example.org/hooks/secret

The address gets JSON with one field, `text`: what Slack, Mattermost and Teams workflows take. Run it again with another
address to change it; remove or pause it on the page *Automations*. The address is kept encrypted on the server.
"""

import argparse

from prefect.automations import Automation
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

BLOCK = "alignflow-failures"
NAME = "alignflow: tell of runs that fail"
SUBJECT = "{{ flow_run.name }}: {{ flow_run.state.name }}"
BODY = """{{ flow_run.name }} ({{ flow.name }}) is {{ flow_run.state.name }}: {{ flow_run.state.message }}
{{ flow_run|ui_url }}"""


def main() -> None:
    """Save the address on the server, and the automation that uses it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where to post to")
    parser.add_argument("--events", nargs="+", default=["Failed", "Crashed", "Suspended"], help="names of states")
    given = parser.parse_args()
    block = CustomWebhookNotificationBlock(
        name="alignflow", url=given.url, method="POST", json_data={"text": "{{subject}}\n{{body}}"}
    )
    block_id = block.save(BLOCK, overwrite=True)
    with get_client(sync_client=True) as client:
        for known in client.read_automations_by_name(NAME):
            client.delete_automation(known.id)
    made = Automation(
        name=NAME,
        description="Posts a message for each run that fails, crashes or waits for a person.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{name}" for name in given.events},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[SendNotification(block_document_id=block_id, subject=SUBJECT, body=BODY)],
    ).create()
    print(f"automation {made.name!r} posts to the given address")


if __name__ == "__main__":
    main()
