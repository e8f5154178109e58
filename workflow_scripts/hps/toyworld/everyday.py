"""The everyday requests: each with the steps that help, in their order, and one optional tip."""

from hps.toyworld.topics import Topic

EVERYDAY = (
    Topic(
        "paint the {x}",
        ("door", "fence", "wall", "boat", "chair"),
        (
            ("get all dirt off", "clean off all dirt"),
            ("sand it smooth", "make it smooth with sand"),
            ("take a wide brush", "use a wide brush"),
            ("add a second coat", "give it a second coat"),
        ),
        tip=("keep it dry", "it must stay dry"),
    ),
    Topic(
        "cook {x} soup",
        ("tomato", "potato", "bean", "onion", "carrot"),
        (
            ("cut small pieces", "cut it into small pieces"),
            ("boil a large pot", "take a large pot to boil"),
            ("add salt and butter", "put in butter and salt"),
            ("stir for ten minutes", "stir it ten minutes"),
        ),
        tip=("taste it often", "you should taste it often"),
    ),
    Topic(
        "bake {x} cake",
        ("apple", "lemon", "honey", "nut", "cherry"),
        (
            ("mix flour and eggs", "mix some eggs and flour"),
            ("add white sugar", "put in white sugar"),
            ("heat the oven", "you should heat the oven"),
            ("leave it one full hour", "it needs a full hour"),
        ),
        tip=("let it cool slowly", "it should cool slowly"),
    ),
    Topic(
        "grow {x} in a garden",
        ("roses", "beans", "carrots", "herbs", "apples"),
        (
            ("dig up the soil", "take the soil and dig"),
            ("put the seeds deep", "put in deep some seeds"),
            ("add water every day", "each day add water"),
            ("keep them in warm sun", "they need warm sun"),
        ),
        tip=("pull out the weeds", "pull up all weeds"),
    ),
    Topic(
        "fix the {x}",
        ("bike", "chair", "lamp", "clock", "gate"),
        (
            ("find the broken part", "get at the broken part"),
            ("turn the old screws", "turn out all old screws"),
            ("put in a new spring", "it needs a new spring"),
            ("test it gently", "gently test it"),
        ),
        tip=("wear strong gloves", "you should wear strong gloves"),
    ),
    Topic(
        "wash the {x}",
        ("car", "dog", "shirt", "bike", "window"),
        (
            ("fill a bucket with water", "take water to fill a bucket"),
            ("add some white soap", "put in white soap"),
            ("rub it with a sponge", "use a sponge to rub"),
            ("dry it with a towel", "use a towel to dry"),
        ),
        tip=("start at the top", "at the top you start"),
    ),
    Topic(
        "learn to play {x}",
        ("chess", "cards", "football", "tennis", "golf"),
        (
            ("study the simple rules", "study some simple rules"),
            ("watch a good player", "find a player to watch"),
            ("practise ten minutes daily", "daily practise for ten minutes"),
            ("join a small club", "get in a small club"),
        ),
        tip=("stay calm and patient", "be patient and stay calm"),
    ),
    Topic(
        "write a {x}",
        ("letter", "poem", "story", "speech", "report"),
        (
            ("choose a clear idea", "choose one clear idea"),
            ("make a rough draft", "start on a rough draft"),
            ("read it aloud slowly", "slowly read it aloud"),
            ("correct the last errors", "correct all last errors"),
        ),
        tip=("use short lines", "keep the lines short"),
    ),
    Topic(
        "plan a {x}",
        ("party", "trip", "picnic", "dinner", "wedding"),
        (
            ("make a list of guests", "list all the guests"),
            ("pick a date", "you should pick a date"),
            ("send the cards early", "send out cards early"),
            ("buy food and music", "buy music and food"),
        ),
        tip=("see what people like", "think what people like"),
    ),
    Topic(
        "build a wooden {x}",
        ("shelf", "chair", "box", "bed", "boat"),
        (
            ("measure the boards twice", "twice measure all boards"),
            ("use a sharp saw", "take a sharp saw"),
            ("join them with long nails", "take long nails to join"),
            ("rub in some oil", "use oil and rub it"),
        ),
        tip=("draw a sketch first", "first draw some sketch"),
    ),
    Topic(
        "teach the {x} to sit",
        ("dog", "parrot", "horse", "pony", "cat"),
        (
            ("call its name softly", "softly call it by name"),
            ("show it a sweet treat", "take a sweet treat to show"),
            ("say the same word", "again say the same word"),
            ("praise it when it obeys", "when it obeys praise it"),
        ),
        tip=("never shout or hurry", "do not hurry or never shout"),
    ),
    Topic(
        "find the lost {x}",
        ("keys", "wallet", "ring", "phone", "bag"),
        (
            ("think where you saw it", "think when you saw it"),
            ("look under the bed", "under the bed you look"),
            ("search all your pockets", "search in your pockets"),
            ("ask at the office", "go ask the office"),
        ),
        tip=("make more light", "put on more light"),
    ),
    Topic(
        "pack a bag for the {x}",
        ("beach", "forest", "city", "island", "desert"),
        (
            ("fold all clothes flat", "fold your clothes flat"),
            ("take a good map", "get a map and take it"),
            ("bring bread and water", "bring some water and bread"),
            ("put heavy things below", "heavy things go below"),
        ),
        tip=("leave some free space", "some space must be free"),
    ),
    Topic(
        "save money for a {x}",
        ("camera", "house", "car", "phone", "computer"),
        (
            ("note what you spend", "each day note what you spend"),
            ("set a weekly limit", "you need a weekly limit"),
            ("sell some old things", "sell your old things"),
            ("keep coins in a jar", "take a jar for coins"),
        ),
        tip=("skip the bus and walk", "walk and skip the bus"),
    ),
    Topic(
        "make {x} tea",
        ("mint", "ginger", "green", "black", "herb"),
        (
            ("warm the pot and cup", "warm a cup and pot"),
            ("pour water over the leaves", "over the leaves pour water"),
            ("wait three minutes", "wait for three minutes"),
            ("sweeten it with sugar", "use sugar to sweeten it"),
        ),
        tip=("cover it with a plate", "use a plate to cover it"),
    ),
    Topic(
        "draw a {x}",
        ("horse", "tree", "cat", "boat", "castle"),
        (
            ("look at a real picture", "get a real picture"),
            ("sketch the big shapes", "sketch some big shapes"),
            ("add dark lines", "add some dark lines"),
            ("colour the rest softly", "softly colour all the rest"),
        ),
        tip=("hold the pen loosely", "loosely hold your pen"),
    ),
)
