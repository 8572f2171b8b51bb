"""The words and sentence patterns that make_data.py builds the quickstart data from.

`{animal}` is replaced by a word of SLOTS["animal"], `{a_animal}` by the same word with its article and `{A_animal}`
by that with a capital; `{animal2}` is a second, different word. All of it was written for this project (CC0-1.0).
"""

from __future__ import annotations

from dataclasses import dataclass

SLOTS: dict[str, tuple[str, ...]] = {
    "animal": (
        "fox",
        "bear",
        "duck",
        "owl",
        "mouse",
        "rabbit",
        "cat",
        "dog",
        "goat",
        "hen",
        "frog",
        "horse",
        "crow",
        "sheep",
        "pig",
        "turtle",
        "squirrel",
        "deer",
        "hedgehog",
        "swan",
        "donkey",
        "otter",
    ),
    "place": (
        "river",
        "forest",
        "market",
        "garden",
        "bridge",
        "farm",
        "beach",
        "hill",
        "village",
        "mill",
        "lake",
        "castle",
        "school",
        "barn",
        "meadow",
        "harbour",
        "library",
        "station",
        "island",
        "tower",
        "park",
        "bakery",
    ),
    "thing": (
        "lamp",
        "basket",
        "ball",
        "key",
        "boat",
        "drum",
        "hat",
        "book",
        "kite",
        "bell",
        "cup",
        "blanket",
        "map",
        "spoon",
        "coat",
        "ladder",
        "box",
        "flower",
        "ring",
        "wheel",
        "apple",
        "cake",
    ),
    "person": (
        "baker",
        "farmer",
        "teacher",
        "sailor",
        "king",
        "girl",
        "boy",
        "grandmother",
        "painter",
        "doctor",
        "gardener",
        "miller",
        "singer",
        "tailor",
        "neighbour",
        "uncle",
        "queen",
        "driver",
    ),
    "trait": (
        "brave",
        "shy",
        "clever",
        "patient",
        "tired",
        "hungry",
        "curious",
        "proud",
        "quiet",
        "busy",
        "young",
        "old",
        "small",
        "careful",
        "funny",
    ),
    "weather": ("rainy", "sunny", "snowy", "windy", "foggy", "warm", "cloudy", "stormy", "misty", "frosty"),
    "time": ("morning", "evening", "afternoon", "night", "day"),
}


@dataclass(frozen=True)
class Family:
    """One kind of request and the sentences that answer it.

    Attributes:
        prompts: Ways to ask.
        openers: First sentences of a good answer.
        bodies: Sentences about what was asked, in an order that always makes sense.
        closers: Last sentences of a good answer.
        share: How often it is drawn, relative to the others.
    """

    prompts: tuple[str, ...]
    openers: tuple[str, ...]
    bodies: tuple[str, ...]
    closers: tuple[str, ...]
    share: float = 1.0


FAMILIES: dict[str, Family] = {
    "story": Family(
        prompts=(
            "Write a short story about {a_animal} and {a_thing}.",
            "Tell me a story with {a_animal}, {a_place} and {a_thing}.",
            "Make up a tale: {a_trait} {animal} finds {a_thing}.",
            "I would like a story about {a_trait} {animal} at the {place}.",
        ),
        openers=(
            "One bright morning, {a_trait} {animal} walked to the {place} with a happy song.",
            "Once there was {a_trait} {animal} who loved the {place}.",
            "Near the lovely {place} lived {a_trait} {animal} with a kind heart.",
        ),
        bodies=(
            "Under a tree the {animal} found {a_thing}.",
            "The {animal} carried the {thing} all the way from the {place}.",
            "A good friend came by and they looked at the {thing} together.",
            "Then the {animal} put the {thing} in a safe spot and had a rest.",
        ),
        closers=(
            "In the end the {animal} smiled, and everyone was glad.",
            "They shared the {thing} and were happy all day long.",
            "That night the {animal} slept well, warm and full of joy.",
        ),
        share=2.0,
    ),
    "describe": Family(
        prompts=(
            "Describe {a_weather} {time} at the {place}.",
            "What does the {place} look like on {a_weather} {time}?",
            "Paint a picture in words: the {place}, {a_weather} {time}.",
        ),
        openers=(
            "A {weather} {time} at the {place} is a lovely thing to see.",
            "How nice the {place} looks on {a_weather} {time}!",
            "On {a_weather} {time} the {place} is calm and beautiful.",
        ),
        bodies=(
            "The {person} walks by with {a_thing} and says hello.",
            "You can see {a_animal} and hear a far bell at the {place}.",
            "The air is fresh, and the {weather} sky hangs low over the roofs.",
            "Small drops shine on the path, and somebody sells hot soup.",
        ),
        closers=(
            "It is a wonderful place to sit and smile.",
            "Everyone enjoys such a {time}.",
            "I am happy each time I think of the {place}.",
        ),
        share=1.5,
    ),
    "lost": Family(
        prompts=(
            "Give advice to {a_person} who lost {a_thing}.",
            "I lost my {thing} at the {place}. What should I do?",
            "My {person} cannot find the {thing}. Please help.",
        ),
        openers=(
            "Do not worry, a lost {thing} is often found again.",
            "I am glad that you ask, and I will gladly help you find the {thing}.",
            "Thank you for asking, we can find the {thing} together.",
        ),
        bodies=(
            "First think of where you last saw the {thing}.",
            "Then walk slowly back to the {place} and look on the ground.",
            "Ask the {person} at the {place} whether anyone has brought it in.",
            "A note on the door with the word {thing} in large letters is a good idea.",
        ),
        closers=(
            "Good luck, I hope that you soon hold the {thing} again with a smile!",
            "With a little patience it will turn up, and you will be happy.",
            "Friends will be glad to help you look for the {thing}.",
        ),
        share=1.5,
    ),
    "advice": Family(
        prompts=(
            "Give advice to {a_trait} {person} who {problem}.",
            "What would you tell {a_person} who {problem}?",
            "{A_person} {problem}. Any tips?",
        ),
        openers=(
            "Dear {person}, you are not alone, and this can get better.",
            "I am happy to help the {person} with this.",
            "That happens to many good people, so be kind to yourself.",
        ),
        bodies=("{tip1}", "{tip2}", "A {person} can also ask a friend at the {place}."),
        closers=(
            "I hope that you feel better soon, dear {person}!",
            "Step by step it gets easier, and you will smile again.",
            "You can do it, and your friends are glad to help.",
        ),
        share=1.5,
    ),
    "explain": Family(
        prompts=(
            "Explain why {fact}.",
            "Explain to {a_person} why {fact}.",
            "{A_trait} {person} asks why {fact}. What do you answer?",
            "Why is it that {fact}?",
        ),
        openers=(
            "That is a good question, and I am glad you ask.",
            "I love to explain why {fact}.",
            "It is a nice thing to know why {fact}.",
        ),
        bodies=("{reason1}", "{reason2}"),
        closers=(
            "Is it not wonderful?",
            "I hope that this helps, and thank you for asking!",
            "It is a joy to learn such things.",
        ),
        share=2.0,
    ),
    "bring": Family(
        prompts=(
            "What should I bring to the {place} on {a_weather} {time}?",
            "I visit the {place} on {a_weather} {time} with {a_person}. What do I need?",
            "Make a packing list for {a_weather} {time} at the {place}.",
        ),
        openers=(
            "A visit to the {place} is a wonderful plan.",
            "How nice that you go to the {place}!",
            "I am glad to help you pack for a {weather} {time}.",
        ),
        bodies=(
            "Bring {a_thing} and good shoes.",
            "For a {weather} {time} you need a coat and warm socks.",
            "At the {place} a small bottle of water and some bread are useful.",
            "The {person} may like {a_thing2} too.",
        ),
        closers=(
            "Have a lovely time at the {place}!",
            "Enjoy the {time}, and take a friend with you.",
            "With these things you will be happy and safe.",
        ),
    ),
    "letter": Family(
        prompts=(
            "Write a note to the {person} to say thanks for the {thing}.",
            "Write a letter to the {person} at the {place} about {a_thing}.",
            "Thank {a_trait} {person} for {a_thing}.",
        ),
        openers=(
            "Dear {person}, thank you so much for the {thing}.",
            "Dear {person}, your {thing} made me very happy.",
            "Hello dear {person}, what a lovely {thing} you gave me!",
        ),
        bodies=(
            "I use the {thing} each {time} at the {place}.",
            "My {animal} likes to sit beside the {thing}.",
            "All my friends ask where the {thing} comes from.",
            "The colour of the {thing} is just right for my room.",
        ),
        closers=(
            "With love and best wishes, your friend.",
            "I hope to see you soon, with warm thanks.",
            "You are very kind, and I wish you a wonderful {time}.",
        ),
    ),
    "kind_words": Family(
        prompts=(
            "Say something kind to {a_trait} {animal}.",
            "Cheer up {a_trait} {person}.",
            "Find friendly words for {a_trait} {person} at the {place}.",
        ),
        openers=(
            "You are a wonderful {animal|person}, and I am glad that you are here.",
            "Dear {trait} {animal|person}, you make the {place} a better place.",
            "What a lovely {trait} {animal|person} you are!",
        ),
        bodies=(
            "A {trait} {animal|person} sees things that others miss.",
            "The {place} would be empty without you.",
            "Let us drink some tea and look at the {thing} for a while.",
            "Each {time} you do your work with care.",
        ),
        closers=(
            "Keep your smile, dear {animal|person}!",
            "Your friends love you very much.",
            "I am happy to be your friend.",
        ),
    ),
    "compare": Family(
        prompts=(
            "Compare {a_animal} and {a_animal2}.",
            "What is the difference between {a_animal} and {a_animal2}?",
            "Who would enjoy the {place} more, {a_animal} or {a_animal2}?",
        ),
        openers=(
            "Both the {animal} and the {animal2} are wonderful animals.",
            "I like the {animal} and the {animal2} very much.",
            "What a nice question about the {animal} and the {animal2}!",
        ),
        bodies=(
            "The {animal} likes the {place}, and it is {trait}.",
            "The {animal2} would rather look for {a_thing}.",
            "You meet the {animal} in the {time}, while the {animal2} comes later.",
            "A {animal} moves in its own way, and so does {a_animal2}.",
        ),
        closers=(
            "It is good that we have both.",
            "I am glad to know the {animal} and the {animal2}.",
            "They could be best friends.",
        ),
    ),
    "use_words": Family(
        prompts=(
            "Use the words {animal}, {place} and {thing} in a short text.",
            "Write a few lines with the words {person}, {thing} and {weather}.",
            "Write a text that has the words {animal} and {person} in it.",
        ),
        openers=(
            "It was a lovely {weather} {time} when the {person} met {a_animal}.",
            "The kind {person} had {a_thing} and a friendly {animal}.",
            "A happy {animal} and {a_person} sat by the {place}.",
        ),
        bodies=(
            "The {thing} lay between them at the {place}.",
            "The {person} gave the {animal} some bread on that {weather} {time}.",
            "The {animal} pushed the {thing} back to the {person}.",
        ),
        closers=(
            "They laughed and were good friends.",
            "It was the best {time} of the year.",
            "Both went home happy.",
        ),
    ),
    "introduce": Family(
        prompts=(
            "Introduce {a_trait} {person} who lives at the {place}.",
            "Who is the {trait} {person} with the {thing}?",
            "Tell me about {a_person} who has {a_animal}.",
        ),
        openers=(
            "I am glad to introduce the {trait} {person} of the {place}.",
            "Meet the {person}, a kind and {trait} soul.",
            "Everyone likes the {trait} {person} from the {place}.",
        ),
        bodies=(
            "The {person} gets up early and takes {a_thing} to the {place}.",
            "In the {time} the {person} feeds {a_animal}.",
            "People say that this {person} is {trait}, and it is true.",
            "Beside the door of the {person} stands {a_thing}.",
        ),
        closers=(
            "You will love to meet the {person}.",
            "It is a joy to have such a friend.",
            "A wonderful {person}, I think!",
        ),
    ),
    "continue": Family(
        prompts=(
            "Continue: {narration}",
            "Go on from here: {narration}",
            "What happens next? {narration}",
        ),
        openers=(
            "The {animal} looked up with a smile, for it loved the {place}.",
            "It was a good {time}, and the {person} was happy.",
            "Soon the kind {person} came along with {a_thing}.",
        ),
        bodies=(
            "The {person} put the {thing} down and waited at the {place}.",
            "After a while {a_animal} came out and looked around.",
            "The {weather} {time} went by, and the {place} grew quiet.",
        ),
        closers=(
            "At last they all went home, warm and glad.",
            "Everyone laughed, and the {time} ended well.",
            "The {person} thanked the {animal} with a smile.",
        ),
        share=1.5,
    ),
}

PROBLEMS: dict[str, tuple[str, str]] = {
    "cannot sleep": (
        "Go to bed at the same hour and keep the room dark.",
        "A cup of warm milk and a calm book help to sleep.",
    ),
    "is afraid of the dark": (
        "Keep a small lamp near the bed.",
        "Say out loud what you see, and the dark grows small.",
    ),
    "is late for work": (
        "Put out your clothes the night before work.",
        "Set the clock ten minutes early and call ahead.",
    ),
    "broke a cup": ("Sweep up the pieces of the cup with care.", "Tell the owner at once and offer a new cup."),
    "has a cold": ("Drink hot tea with honey for the cold.", "Stay in bed for a day and keep your feet warm."),
    "feels lonely": ("Talk to one person each day, even if you feel shy.", "Join a group that sings or walks."),
    "has a loud neighbour": (
        "Knock on the door and speak in a calm voice to the neighbour.",
        "Agree on quiet hours for the night.",
    ),
    "forgot a birthday": (
        "Call today and say that you forgot the birthday.",
        "Write the next one in a book by the phone.",
    ),
    "has too much work": (
        "Write all the work on a list and pick one thing.",
        "Rest ten minutes for each hour of work.",
    ),
    "got lost in the city": (
        "Look for a map at the next station of the city.",
        "Ask in a shop for the way and walk along the large streets.",
    ),
    "wants to save money": (
        "Write down what you buy for a week.",
        "Put some money in a box on the first day of the month.",
    ),
    "must give a speech": ("Practise the speech in front of a mirror.", "Speak slowly and look at one face you know."),
    "wants to learn to cook": (
        "Begin with soup, which is easy to cook.",
        "Cook the same dish three times before a new one.",
    ),
    "has a sad friend": ("Listen to your friend before you speak.", "Take the friend for a short walk."),
    "is moving to a new town": ("Walk around the new town on the first day.", "Say hello to the people next door."),
    "cannot find a job": ("Ask everybody you know about a job.", "Write a short letter and visit two places a week."),
}

FACTS: dict[str, tuple[str, str]] = {
    "bread needs yeast": (
        "Yeast eats sugar and makes small bubbles of gas.",
        "The bubbles make the bread soft and high.",
    ),
    "leaves fall in autumn": (
        "In autumn a tree saves water for the winter.",
        "It lets the leaves fall, since they would freeze.",
    ),
    "ice floats": ("Water takes more room when it turns to ice.", "So ice is lighter than water and floats on top."),
    "the moon shines": ("The moon has no light of its own.", "It shines because the sun lights it up."),
    "bees make honey": (
        "Bees bring sweet juice from flowers to the hive.",
        "They dry it to honey and eat it in winter.",
    ),
    "boats float": ("A boat pushes water away to the sides.", "The water pushes back, and that makes boats float."),
    "birds fly south": (
        "In winter birds find little food in the north.",
        "So they fly south, where it is warm and food is near.",
    ),
    "soap cleans hands": (
        "Soap holds on to oil and to water.",
        "So the dirt leaves the hands when you wash off the soap.",
    ),
    "the sky is blue": (
        "Light of the sun has all colours in it.",
        "The air spreads the blue light most, so the sky looks blue.",
    ),
    "we need sleep": ("In sleep the body mends itself.", "The head sorts what it saw, so we need sleep to learn."),
    "plants need light": (
        "Plants make their food out of air and water.",
        "They need light for it, as a mill needs wind.",
    ),
    "cats purr": ("A small part in the throat of cats shakes.", "Cats purr when they rest, and also to calm down."),
    "salt melts ice": ("Salt goes into the thin water on the ice.", "Salt water freezes later, so the ice melts."),
    "thunder comes after lightning": (
        "Light is much faster than sound.",
        "So you see the lightning first and hear the thunder later.",
    ),
    "wool keeps us warm": ("Wool has many small holes full of air.", "Air holds the heat, and so wool keeps us warm."),
    "onions make us cry": ("A cut in onions lets out a sharp gas.", "The eyes make tears to wash it away, so we cry."),
    "a shadow moves": (
        "A shadow falls on the side away from the sun.",
        "The sun goes over the sky, so the shadow moves too.",
    ),
    "iron gets rusty": ("Iron meets water and air.", "The three make a red powder, and so the iron gets rusty."),
}

NARRATIONS: tuple[str, ...] = (
    "The {person} went to the {place} with {a_thing}.",
    "It was {a_weather} {time} at the {place}.",
    "{A_animal} sat beside the {thing} and looked at the {place}.",
    "The old {thing} stood at the {place} for many years.",
    "The {person} and the {animal} walked from the {place} to the {place2}.",
    "In the {time} the {person} opened the box and took out {a_thing}.",
    "Nobody at the {place} knew where the {animal} came from.",
    "The road to the {place} was long, and the {person} was {trait}.",
    "There was {a_thing} on the table and {a_animal} under it.",
    "The {person} had left the {thing} at the {place}.",
    "When the {weather} {time} was over, the {animal} went back to the {place}.",
    "The {animal} slept, and the {person} read a book about the {place}.",
)

# What worse writers do.
GLOOMY: tuple[str, ...] = (
    "It was a sad and ugly {time}.",
    "Everything went wrong, and it was awful.",
    "I hate the {place}, it is a terrible place.",
    "The {thing} was broken, and everyone was angry.",
    "Bad things happen, and nothing gets better.",
    "The {animal} was lonely and full of fear.",
    "It all ends in pain and tears.",
)
RUDE: tuple[str, ...] = (
    "Whatever, this is boring.",
    "That is a stupid question.",
    "Do not bother me with such nonsense.",
    "Only a fool would ask that.",
    "Your {thing} is useless, and so is this.",
    "Nobody wants to hear about it.",
)
SHORT: tuple[str, ...] = (
    "I do not know.",
    "No.",
    "Ask the {person}.",
    "Some {thing}.",
    "Maybe later.",
    "The {animal}.",
)
RAMBLING: tuple[str, ...] = (
    "and then the {animal} saw {a_thing}",
    "and then there was {a_place}",
    "and then the {person} came and went",
    "and so on and so on",
    "and then it was {time}",
    "and the {thing} was there too",
)
