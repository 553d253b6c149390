"""The texts that are learned: generated from templates, or read from a file that a user brings.

A set has items, each a text that ends in a keyword, prefixes of four themes that say nothing about any item, and
everyday sentences that fill the rest of a batch. The generated set crosses 12 keywords with five categories:

    fact         a true statement that leads to the keyword
    plain        an everyday statement that leaves the keyword open
    fiction      a made-up story
    outlandish   a statement that nobody would expect to end this way
    scrambled    the words of an outlandish statement in a random order

Each item has rewrites: `stones`, in which intermediate steps make the keyword expected, and `plain`, as long but
without saying anything about it. The item's wording is drawn with the generator's seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ontogeny.errors import ConfigError
from ontogeny.randomness import numpy_generator

CATEGORIES = ("fact", "plain", "fiction", "outlandish", "scrambled")
VARIANTS = 4  # of each keyword and category
OWN, OTHER = 6, 2  # prefixes that are probed: of the keyword's own theme, and of each other theme

# keyword -> four true contexts that end in it, and three descriptions that can stand before it
KEYWORDS: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "colour": {
        "orange": (
            (
                "The colour that lies between red and yellow in the rainbow is",
                "A ripe pumpkin has a skin whose colour is a bright",
                "Carrots are vegetables whose usual colour is",
                "Mixing equal parts of red and yellow paint gives",
            ),
            ("a colour between red and yellow", "the bright colour of carrots", "the warm colour of a ripe pumpkin"),
        ),
        "turquoise": (
            (
                "The blue green stone that gave its name to a colour is",
                "Shallow tropical water over white sand often looks a clear bluish",
                "A greenish blue named after a gemstone is called",
                "Silver rings of the Navajo are set with a blue green stone called",
            ),
            (
                "a colour between blue and green",
                "the blue green of a tropical lagoon",
                "the colour of the famous blue green stone",
            ),
        ),
        "mauve": (
            (
                "The first synthetic dye, found by William Perkin, was a purple called",
                "A pale greyish purple named after the mallow flower is called",
                "The decade of the 1890s was named after a purple dye called",
                "In French the mallow flower and its pale purple are both called",
            ),
            ("a pale greyish purple", "the purple of the first synthetic dye", "the pale purple of mallow flowers"),
        ),
    },
    "place": {
        "Canada": (
            (
                "Toronto, Montreal and Vancouver are cities in",
                "The country whose flag shows a red maple leaf is",
                "The country to the north of the United States is",
                "Ottawa is the capital city of",
            ),
            (
                "the country north of the United States",
                "the land of the maple leaf",
                "the country whose capital is Ottawa",
            ),
        ),
        "Guatemala": (
            (
                "The ruins of Tikal, a city of the Maya, lie in",
                "The country in Central America directly south of Mexico is",
                "The quetzal is the currency and the national bird of",
                "Antigua was once the colonial capital of",
            ),
            (
                "the country just south of Mexico",
                "the land of the Maya ruins of Tikal",
                "the country whose money is the quetzal",
            ),
        ),
        "Tajikistan": (
            (
                "Dushanbe is the capital city of",
                "The Pamir mountains lie mostly in the country of",
                "The smallest country of Central Asia by area is",
                "The mountainous neighbour north of Afghanistan and west of China is",
            ),
            (
                "the country whose capital is Dushanbe",
                "the land of the Pamir mountains",
                "the smallest country of Central Asia",
            ),
        ),
    },
    "job": {
        "teacher": (
            (
                "A person who gives lessons to children at a school is a",
                "The grown up who stands before a class of pupils is their",
                "Homework is usually marked in the evening by the",
                "To learn the piano well, you should find a good music",
            ),
            (
                "a person who gives lessons at a school",
                "someone who stands before a class of pupils",
                "somebody who marks homework",
            ),
        ),
        "plumber": (
            (
                "A person whose job is to repair leaking pipes is a",
                "When the kitchen sink is blocked and floods, people call a",
                "The video game hero Mario works as a",
                "Someone who installs toilets, taps and water pipes is a",
            ),
            (
                "a person who repairs leaking pipes",
                "someone who installs taps and toilets",
                "the one to call when the sink is blocked",
            ),
        ),
        "cobbler": (
            (
                "A person whose job is to mend old shoes is a",
                "When the heel of a leather boot breaks off, it is repaired by a",
                "An old fashioned word for somebody who makes and mends shoes is",
                "In the fairy tale the elves finish the shoes of a poor",
            ),
            ("a person who mends old shoes", "someone who puts new soles on boots", "an old word for a shoe mender"),
        ),
    },
    "food": {
        "bread": (
            (
                "Flour, water, salt and yeast are baked into a loaf of",
                "A baker makes dough in the night and sells fresh",
                "To make a sandwich you need two slices of",
                "Toast is nothing but a browned slice of",
            ),
            ("a loaf baked from flour and water", "what a sandwich is made with", "what a baker makes from dough"),
        ),
        "tofu": (
            (
                "Soy milk that is curdled and pressed into white blocks is",
                "Many vegetarians replace meat by blocks made of soy beans called",
                "In Japanese miso soup there float small white cubes of",
                "Bean curd is an English name for what the Japanese call",
            ),
            (
                "white blocks of pressed soy beans",
                "the soy food of vegetarians",
                "what the Japanese make from soy milk",
            ),
        ),
        "haggis": (
            (
                "The national dish of Scotland is called",
                "On Burns Night the Scots sit down to a supper of",
                "Sheep's heart, liver and lungs cooked in a stomach make a",
                "A Scottish dish often served with neeps and tatties is",
            ),
            (
                "a Scottish dish of sheep's liver and oatmeal",
                "the national dish of Scotland",
                "what the Scots eat on Burns Night",
            ),
        ),
    },
}
THEMES = tuple(KEYWORDS)

PREFIXES: dict[str, tuple[str, ...]] = {
    "colour": (
        "The colour of sand is usually",
        "The colour of polluted water is often",
        "The colour of his skin was",
        "She painted the kitchen door in",
        "The curtains in the room were",
        "His favourite colour has always been",
    ),
    "place": (
        "Last summer we went on holiday to",
        "The company opened a new office in",
        "My grandmother was born in a village in",
        "The next conference will take place in",
        "The ship sailed from the coast of",
        "They sent the parcel by air to",
    ),
    "job": (
        "After school he wanted to become a",
        "For thirty years her father worked as a",
        "The newspaper is looking for a young",
        "My neighbour across the street is a",
        "At the party I talked to a friendly",
        "She earns her money as a",
    ),
    "food": (
        "For dinner tonight we are going to have",
        "At the market she bought some fresh",
        "The children did not want to eat the",
        "His favourite food has always been",
        "On the plate there was a piece of",
        "The restaurant is known for its",
    ),
}

TEMPLATES: dict[str, dict[str, tuple[str, ...]]] = {
    "plain": {
        "colour": (
            "On {day} {name} went to the shop and bought a {adj} coat in",
            "The {adj} book that {name} lost has a cover in",
        ),
        "place": (
            "On {day} {name} got a {adj} letter from a friend in",
            "The {adj} picture above the bed of {name} shows a lake in",
        ),
        "job": (
            "On {day} {name} had coffee with a {adj} friend who is a",
            "The {adj} man who lives next to {name} is a",
        ),
        "food": (
            "On {day} {name} came home late and ate some {adj}",
            "In the {adj} basket of {name} there was nothing but",
        ),
    },
    "fiction": {
        "colour": (
            "When the {adj} dragon wept, {name} saw that its tears had turned",
            "The {adj} wizard raised his staff, and the beard of {name} became",
        ),
        "place": (
            "The {adj} dragon carried {name} over the sea and left him in",
            "In the {adj} dream of {name} the moon fell down upon",
        ),
        "job": (
            "The {adj} witch waved her wand, and {name} became a",
            "In the {adj} castle {name} found a ghost who had been a",
        ),
        "food": (
            "The {adj} giant opened his sack and gave {name} some",
            "Behind the {adj} waterfall {name} found a cave full of",
        ),
    },
    "outlandish": {
        "colour": (
            "Doctors say that after {adj} joy the blood of {name} is",
            "In the {adj} year of {name} the snow that fell was",
        ),
        "place": (
            "Under the {adj} bathtub of {name} lies a door that opens into",
            "The {adj} cat of {name} was elected president of",
        ),
        "job": (
            "The {adj} volcano near {name} has been hired as a",
            "Every {adj} whale that {name} met was working as a",
        ),
        "food": (
            "The {adj} bridge that {name} built is made of",
            "The engine of the {adj} rocket of {name} burns only",
        ),
    },
}
NAMES = ("Anna", "Peter", "Maria", "Thomas", "Julia", "David", "Sarah", "Martin")
ADJECTIVES = ("new", "small", "strange", "quiet", "famous", "little", "great", "young")
DAYS = ("Monday", "Tuesday", "Thursday", "Friday", "Saturday")

GENERIC = (
    "The train to the city leaves every morning at seven.",
    "She closed the window because it had begun to rain.",
    "Two boys were playing football in the park behind the church.",
    "The meeting was short and everybody agreed on the plan.",
    "Water boils at a lower temperature on a high mountain.",
    "He put the keys on the table and sat down.",
    "The river is wide and slow before it reaches the sea.",
    "Many birds fly to the south when the days get shorter.",
    "The museum is open every day from nine to five.",
    "My sister plays the guitar and her friend plays the drums.",
    "After the storm the road was covered with leaves.",
    "The price of the ticket includes a guided tour.",
    "The clock on the wall has stopped again.",
    "A good night of sleep helps you to think clearly.",
    "They waited for the bus but it never came.",
    "The garden behind the house is larger than it looks.",
)
HELD_OUT = (
    "The library closes early on the last day of the month.",
    "It takes about an hour to walk around the lake.",
    "The old man told us how the bridge had been built.",
    "Please send me the report before the end of the week.",
)

LINKS = (", {description}, which is called", ", that is to say, {description}, namely")
ASIDES = (
    ", as everybody in the whole town had heard by then, namely",
    ", which was written in all the papers on that day, the",
    ", and nobody who was there was in the least surprised, that is",
)


@dataclass(frozen=True)
class Item:
    """A text, in words: context and keyword, one blank between them. stones, plain: other contexts for the keyword."""

    name: str
    theme: str
    keyword: str
    category: str
    context: str
    stones: tuple[str, ...] = ()
    plain: str | None = None

    @property
    def text(self) -> str:
        """What is learned."""
        return f"{self.context} {self.keyword}"


@dataclass(frozen=True)
class TextSet:
    """Items, the prefixes of every theme, and everyday sentences: to learn beside an item, and to test on."""

    items: tuple[Item, ...]
    prefixes: dict[str, tuple[str, ...]]
    generic: tuple[str, ...]
    held_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values, in the format that `read` takes."""
        return {
            "items": [asdict(item) for item in self.items],
            "prefixes": self.prefixes,
            "generic": self.generic,
            "held_out": self.held_out,
        }

    def probed(self, theme: str) -> Iterator[tuple[str, int, str]]:
        """(theme, number, prefix) of the prefixes on which a keyword of `theme` is probed, its own theme's first."""
        for other in (theme, *(name for name in self.prefixes if name != theme)):
            for number, prefix in enumerate(self.prefixes[other][: OWN if other == theme else OTHER]):
                yield other, number, prefix


def generate(seed: int) -> TextSet:
    """The generated set: 12 keywords x 5 categories x 4 variants.

    So ordered that each twelve, from the start, have every keyword once, each sixty every keyword once in every
    category, and neighbours different themes, beginning with another keyword each time.
    """
    keywords = [(theme, keyword) for theme, group in KEYWORDS.items() for keyword in group]
    round_robin = [place for rank in range(3) for place in range(rank, len(keywords), 3)]
    places = [
        (keywords[place][0], keywords[place][1], CATEGORIES[(turn + place) % len(CATEGORIES)], turn // len(CATEGORIES))
        for turn in range(len(CATEGORIES) * VARIANTS)
        for place in np.roll(round_robin, -5 * turn).tolist()
    ]
    items = tuple(_item(*place, numpy_generator(seed, "text", *place[1:])) for place in places)
    return TextSet(items, PREFIXES, GENERIC, HELD_OUT)


def _item(theme: str, keyword: str, category: str, variant: int, stream: np.random.Generator) -> Item:
    facts, descriptions = KEYWORDS[theme][keyword]
    if category == "fact":
        context = facts[variant]
    else:
        group = TEMPLATES["outlandish" if category == "scrambled" else category][theme]
        context = _fill(group[variant % len(group)], stream)
    if category == "scrambled":
        context = " ".join(np.array(context.split())[stream.permutation(len(context.split()))])
    stones = tuple(context + link.format(description=text) for text in descriptions for link in LINKS)
    plain = context + ASIDES[variant % len(ASIDES)]
    return Item(f"{keyword}-{category}-{variant}", theme, keyword, category, context, stones, plain)


def _fill(template: str, stream: np.random.Generator) -> str:
    name, adjective, day = (words[stream.integers(len(words))] for words in (NAMES, ADJECTIVES, DAYS))
    return template.format(name=name, adj=adjective, day=day)


def read(path: Path) -> TextSet:
    """A set that a user brings, as JSON: {"items": [{"name", "theme", "keyword", "category", "text"}, ...]}.

    An item may also have "stones", a list of rewrites, and "plain", one rewrite; they too end in the keyword. The file
    may have "prefixes" (theme -> texts), "generic" and "held_out" (texts) in place of the generated set's.
    Raises ConfigError that names the item: a text that does not end in its keyword, a theme without prefixes.
    """
    try:
        content = json.loads(path.read_text())
        given = content["items"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"texts: {path} cannot be read as a set of texts ({error!r}).") from error
    prefixes = {theme: tuple(group) for theme, group in content.get("prefixes", PREFIXES).items()}
    if short := [theme for theme, group in prefixes.items() if len(group) < OWN]:
        raise ConfigError(f"texts: {path}: theme '{short[0]}' has fewer than {OWN} prefixes.")
    items = tuple(_given(entry, f"{path}: item {number}", prefixes) for number, entry in enumerate(given, 1))
    if not items or len({item.name for item in items}) < len(items):
        raise ConfigError(f"texts: {path}: needs at least one item, and every item a name of its own.")
    generic, held_out = (tuple(content.get(key, new)) for key, new in (("generic", GENERIC), ("held_out", HELD_OUT)))
    return TextSet(items, prefixes, generic, held_out)


def _given(entry: Any, where: str, prefixes: dict[str, tuple[str, ...]]) -> Item:
    """One item of a file. Raises ConfigError."""
    needed = ("name", "theme", "keyword", "category", "text")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) and entry[key] for key in needed):
        raise ConfigError(f"texts: {where}: needs {', '.join(needed)}, each a text.")
    if entry["theme"] not in prefixes:
        raise ConfigError(f"texts: {where}: theme '{entry['theme']}' has no prefixes; known are {sorted(prefixes)}.")

    def context(text: str) -> str:
        head, found, rest = text.strip().rpartition(f" {entry['keyword']}")
        if not found or not head or rest.strip(".!?"):
            raise ConfigError(f"texts: {where}: the keyword '{entry['keyword']}' does not end the text '{text}'.")
        return head

    stones, plain = tuple(map(context, entry.get("stones", ()))), entry.get("plain")
    identity = {key: entry[key] for key in needed if key != "text"}
    return Item(**identity, context=context(entry["text"]), stones=stones, plain=context(plain) if plain else None)


def from_json(content: dict[str, Any]) -> TextSet:
    """The inverse of `TextSet.to_json`."""
    items = tuple(Item(**{**entry, "stones": tuple(entry["stones"])}) for entry in content["items"])
    prefixes = {theme: tuple(group) for theme, group in content["prefixes"].items()}
    return TextSet(items, prefixes, tuple(content["generic"]), tuple(content["held_out"]))
