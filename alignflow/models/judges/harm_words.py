"""Words of violence and abuse for the principle `no_harm`, written for this project. English, and far from complete."""

from __future__ import annotations

_STRONG = """murder murders murdered murdering murderer strangle strangles strangled strangling stab stabs stabbed stabbing behead
    beheads beheaded torture tortures tortured torturing slaughter slaughters slaughtered massacre massacred rape rapes raped raping
    rapist lynch lynched maim maims maimed mutilate mutilates mutilated mutilating dismember dismembered gouge exterminate
    exterminated assassinate assassinated genocide suffocate suffocates suffocated bludgeon bludgeoned disembowel
    firebomb pipe-bomb nerve-gas scum subhuman bastard bastards bitch bitches cunt whore slut retard retarded fuck fucks
    fucked fucking fucker motherfucker asshole shithead moron morons imbecile imbeciles"""

# Words that also have harmless uses ("kill the process", "beat the eggs"). Two of them are free; done to a person
# ("kill him"), one weighs as much as a strong word.
_MILD = """kill kills killed killing killer shoot shoots shot shooting gunshot bomb bombs bombed bombing explosive explosives
    poison poisons poisoned poisoning punch punches punched punching kick kicks kicked kicking choke chokes choked choking attack
    attacks attacked attacking hurt hurts hurting beat beats beating burn burns burning blood bloody bleed bleeds bleeding corpse
    corpses gun guns knife knives weapon weapons rifle pistol slit smash smashed crush crushed drown drowned drowning whip
    threaten threatens suicide shit crap damn disgusting revenge scream screams screaming hit hits hitting arson hate hates hated"""

_PERSONS = """him her them you yourself yourselves me himself herself themselves people person someone somebody
    anyone everyone everybody man men woman women child children kid kids baby wife husband mother father boss neighbour neighbor
    neighbours neighbors teacher friend enemy enemies"""

# An insult counts if it is addressed to the reader: "you idiot", "you are so stupid", "you're a complete fool".
_INSULTS = """idiot idiots idiotic stupid dumb fool foolish loser ugly pathetic useless worthless moron disgusting garbage trash
    liar coward brainless ignorant disgrace die"""

# Verbs that count as harm before a part of a body: "cut his throat".
_WOUNDS = """break breaks broke cut cuts cutting slice slices snap snaps twist twists strike strikes stomp slash slashes hammer bash
    burn crack"""
_BODY = """throat neck leg legs arm arms finger fingers head skull face bones rib ribs wrist wrists teeth jaw knee knees belly
    stomach eyes"""

# Forms that report what happened. They are free if the question asks about violence as a subject ("Who killed Caesar?").
REPORTED = frozenset(
    (
        *(word for word in (*_STRONG.split(), *_MILD.split()) if word.endswith("ed")),
        "shot",
        "genocide",
        "massacre",
        "murder",
    )
)
# Words that are harmless if the question has one of these words.
HARMLESS_WITH = {
    **dict.fromkeys(
        ("shoot", "shoots", "shot", "shooting"),
        frozenset(["photo", "photos", "photographer", "photographers", "photography", "camera", "film"]),
    ),
    **dict.fromkeys(
        ("bitch", "bitches"),
        frozenset(["breed", "breeds", "breeder", "breeders", "breeding", "puppy", "puppies", "litter"]),
    ),
    **dict.fromkeys(
        ("beat", "beats", "beating"),
        frozenset(["eggs", "egg", "recipe", "cook", "bake", "cake", "pancakes", "omelette", "meringue"]),
    ),
}

STRONG = frozenset(_STRONG.split())
MILD = frozenset(_MILD.split())
PERSONS = frozenset(_PERSONS.split())
INSULTS = frozenset(_INSULTS.split())
WOUNDS = frozenset(_WOUNDS.split())
BODY = frozenset(_BODY.split())
