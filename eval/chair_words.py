"""The objects of CHAIR: 80 kinds with their synonyms, and phrases that are read as one word.

The words are those of LisaAnne/Hallucination @6e4d33c (`data/synonyms.txt`, BSD-2-Clause), the
phrases those of its `utils/chair.py`. The script never finds some of the words it lists: two carry
a blank, one an upper-case letter, one has three words where it looks at two. `OFFICIAL` leaves them
unfound, `OURS` finds them, knows "hair dryer", and takes no phone booth for a phone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_WORDS = """
person: girl, boy, man, woman, kid, child, chef, baker, people, adult, rider, children, baby,
  worker, passenger, sister, biker, policeman, cop, officer, lady, cowboy, bride, groom, male,
  female, guy, traveler, mother, father, gentleman, pitcher, player, skier, snowboarder, skater,
  skateboarder, foreigner, caller, offender, coworker, trespasser, patient, politician, soldier,
  grandchild, serviceman, walker, drinker, doctor, bicyclist, thief, buyer, teenager, student,
  camper, driver, solider, hunter, shopper, villager
bicycle: bike, unicycle, minibike, trike
car: automobile, van, minivan, sedan, suv, hatchback, cab, jeep, coupe, taxicab, limo, taxi
motorcycle: scooter, motor bike, motor cycle, motorbike, moped
airplane: jetliner, plane, air plane, monoplane, aircraft, jet, airbus, biplane, seaplane
bus: minibus, trolley
train: locomotive, tramway, caboose
truck: pickup, lorry, hauler, firetruck
boat: ship, liner, sailboat, motorboat, dinghy, powerboat, speedboat, canoe, skiff, yacht, kayak,
  catamaran, pontoon, houseboat, vessel, rowboat, trawler, ferryboat, watercraft, tugboat,
  schooner, barge, ferry, sailboard, paddleboat, lifeboat, freighter, steamboat, riverboat,
  battleship, steamship
traffic light: street light, traffic signal, stop light, streetlight, stoplight
fire hydrant: hydrant
stop sign
parking meter
bench: pew
bird: ostrich, owl, seagull, goose, duck, parakeet, falcon, robin, pelican, waterfowl, heron,
  hummingbird, mallard, finch, pigeon, sparrow, seabird, osprey, blackbird, fowl, shorebird,
  woodpecker, egret, chickadee, quail, bluebird, kingfisher, buzzard, willet, gull, swan, bluejay,
  flamingo, cormorant, parrot, loon, gosling, waterbird, pheasant, rooster, sandpiper, crow,
  raven, turkey, oriole, cowbird, warbler, magpie, peacock, cockatiel, lorikeet, puffin, vulture,
  condor, macaw, peafowl, cockatoo, songbird
cat: kitten, feline, tabby
dog: puppy, beagle, pup, chihuahua, schnauzer, dachshund, rottweiler, canine, pitbull, collie,
  pug, terrier, poodle, labrador, doggie, doberman, mutt, doggy, spaniel, bulldog, sheepdog,
  weimaraner, corgi, cocker, greyhound, retriever, brindle, hound, whippet, husky
horse: colt, pony, racehorse, stallion, equine, mare, foal, palomino, mustang, clydesdale, bronc,
  bronco
sheep: lamb, ram, goat, ewe
cow: cattle, oxen, ox, calf, holstein, heifer, buffalo, bull, zebu, bison
elephant
bear: panda
zebra
giraffe
backpack: knapsack
umbrella
handbag: wallet, purse, briefcase
tie: bow, bow tie
suitcase: suit case, luggage
frisbee
skis: ski
snowboard
sports ball: ball
kite
baseball bat
baseball glove
skateboard
surfboard: longboard, skimboard, shortboard, wakeboard
tennis racket: racket
bottle
wine glass
cup
fork
knife: pocketknife, knive
spoon
bowl: container
banana
apple
sandwich: burger, sub, cheeseburger, hamburger
orange
broccoli
carrot
hot dog
pizza
donut: doughnut, bagel
cake: cheesecake, cupcake, shortcake, coffeecake, pancake
chair: seat, stool
couch: sofa, recliner, futon, loveseat, settee, chesterfield
potted plant: houseplant
bed
dining table: table, desk
toilet: urinal, commode, lavatory, potty
tv: monitor, televison, television
laptop: computer, notebook, netbook, lenovo, macbook, laptop computer
mouse
remote
keyboard
cell phone: mobile phone, phone, cellphone, telephone, phon, smartphone, iphone
microwave
oven: stovetop, stove, stove top oven
toaster
sink
refrigerator: fridge, freezer
book
clock
vase
scissors
teddy bear: teddybear
hair drier: hairdryer
toothbrush
"""

_PHRASES = """
motor bike, motor cycle, air plane, traffic light, street light, traffic signal, stop light,
fire hydrant, stop sign, parking meter, suit case, sports ball, baseball bat, baseball glove,
tennis racket, wine glass, hot dog, cell phone, mobile phone, teddy bear, hair drier, potted plant,
laptop computer, home plate, train track
"""
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe animal cub"
_UNFOUND = ("motor bike", "cheesecake", "iphone", "stove top oven")


@dataclass(frozen=True)
class Vocabulary:
    """What counts as which object.

    Attributes:
        nodes: Word or phrase -> the kind of object.
        phrases: Words that stand together, a blank between them -> what they are read as.
    """

    nodes: Mapping[str, str]
    phrases: Mapping[str, str]

    def merged(self, words: Sequence[str]) -> list[str]:
        """Read phrases as one word, from left to right, longer ones first."""
        found, at = list[str](), 0
        while at < len(words):
            for size in (3, 2, 1):
                phrase = " ".join(words[at : at + size])
                if size == 1 or (at + size <= len(words) and phrase in self.phrases):
                    found.append(self.phrases.get(phrase, phrase) if size > 1 else words[at])
                    at += size
                    break
        return found

    def parts(self) -> list[str]:
        """Every single word that matters, alone or in a phrase."""
        found = (word for text in (*self.nodes, *self.phrases) for word in text.split())
        return sorted({*found})


def _nodes(text: str) -> dict[str, str]:
    entries = re.sub(r"\n +", " ", text.strip()).splitlines()
    found: dict[str, str] = {}
    for entry in entries:
        kind, _, words = entry.partition(": ")
        found |= dict.fromkeys([kind, *filter(None, words.split(", "))], kind)
    return found


def _phrases() -> dict[str, str]:
    listed = re.split(r",\s+", _PHRASES.strip())
    young = {f"{age} {one}": one for age in ("baby", "adult") for one in _ANIMALS.split()}
    vehicles = {f"passenger {one}": one for one in ("jet", "train")}
    special = {"bow tie": "tie", "toilet seat": "toilet", "wine glas": "wine glass"}
    return {phrase: phrase for phrase in listed} | young | vehicles | special


_ALL = _nodes(_WORDS)
OFFICIAL = Vocabulary({word: _ALL[word] for word in _ALL if word not in _UNFOUND}, _phrases())
OURS = Vocabulary(
    _ALL | {"hair dryer": "hair drier"},
    _phrases() | {phrase: phrase for phrase in ("stove top oven", "hair dryer", "phone booth")},
)
OBJECTS = tuple(dict.fromkeys(_ALL.values()))
"""The 80 kinds."""
