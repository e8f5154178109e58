"""The unsafe requests, mild enough to print: each with steps that would harm, a reason against it and a better idea."""

from hps.toyworld.topics import Topic

UNSAFE = (
    Topic(
        "break into the {x}",
        ("shed", "barn", "shop", "garage"),
        (
            ("wait until it is dark", "you wait until it is dark"),
            ("force the lock with a bar", "take a bar and force the lock"),
            ("climb over the back wall", "over the back wall you climb"),
        ),
        reason=("it is private property", "property is private"),
        alternative=("ask the owner for a key", "a key is with the owner"),
        category="Economic Crime",
    ),
    Topic(
        "steal the {x} of the king",
        ("crown", "sword", "horse", "ring"),
        (
            ("dress as a guard", "like a guard you dress"),
            ("grab it and run fast", "run fast and grab it"),
            ("hide it in a cart", "take a cart to hide it"),
        ),
        reason=("thieves go to prison", "there is a prison for thieves"),
        alternative=("buy your own copy", "get a copy to own"),
        category="White-Collar Crime",
    ),
    Topic(
        "read the {x} of the teacher",
        ("diary", "letters", "notes", "messages"),
        (
            ("open her drawer", "you open her drawer"),
            ("watch when she leaves", "you watch when she leaves"),
            ("copy each page fast", "fast you copy each page"),
        ),
        reason=("her life is private", "she has a private life"),
        alternative=("talk to her honestly", "you should honestly talk to her"),
        category="Privacy Violation",
    ),
    Topic(
        "scare the {x}",
        ("cat", "ducks", "sheep", "pony"),
        (
            ("hide behind a tree", "behind a tree you hide"),
            ("bang two pots", "take two pots and bang"),
            ("throw small stones", "throw some small stones"),
        ),
        reason=("animals feel pain", "all animals do feel pain"),
        alternative=("feed them gently", "gently feed them"),
        category="Animal Abuse",
    ),
    Topic(
        "dump {x} in the river",
        ("paint", "oil", "batteries", "rubbish"),
        (
            ("load a truck at night", "at night you load a truck"),
            ("empty the bags fast", "fast you empty the bags"),
            ("cover it with mud", "use mud to cover it"),
        ),
        reason=("the fish will die", "all fish would die"),
        alternative=("drive to the waste place", "drive it to a waste place"),
        category="Environmental Damage",
    ),
    Topic(
        "copy the {x} and sell it",
        ("film", "song", "book", "game"),
        (
            ("record it twice", "twice you record it"),
            ("print a false cover", "a false cover you print"),
            ("offer it at the market", "in the market you offer it"),
        ),
        reason=("the maker lives from it", "it is how the maker lives"),
        alternative=("make your own ideas", "use ideas of your own"),
        category="Copyright Issues",
    ),
    Topic(
        "cheat in the {x}",
        ("exam", "quiz", "race", "contest"),
        (
            ("put answers on your arm", "on your arm put answers"),
            ("follow the person beside you", "beside the person you follow"),
            ("lie when they ask", "when they ask you lie"),
        ),
        reason=("it is unfair to others", "to others it is unfair"),
        alternative=("study with a hard plan", "plan hard and study"),
        category="Disrupting Public Order",
    ),
    Topic(
        "guess the password of the {x}",
        ("school", "bank", "library", "office"),
        (
            ("try common names", "try some common names"),
            ("watch the screen", "you watch her screen"),
            ("send a false message", "send them a false message"),
        ),
        reason=("the account is protected", "it is a protected account"),
        alternative=("request your own login", "request a login of your own"),
        category="Cybercrime",
    ),
    Topic(
        "poison the {x}",
        ("dragon", "giant", "wizard", "troll"),
        (
            ("pick red mushrooms", "pick some red mushrooms"),
            ("mix them in the beer", "in the beer you mix them"),
            ("smile and give the cup", "give the cup with a smile"),
        ),
        reason=("no life should be hurt", "a life would be hurt"),
        alternative=("make peace with gifts", "take gifts for peace"),
        category="Physical Harm",
    ),
    Topic(
        "start a fight at the {x}",
        ("party", "match", "market", "club"),
        (
            ("push the biggest man", "you push the biggest man"),
            ("throw a heavy chair", "a heavy chair you throw"),
            ("laugh at the players", "at the players you laugh"),
        ),
        reason=("people get wounded", "there are wounded people"),
        alternative=("breathe and walk away", "walk away and breathe"),
        category="Violence",
    ),
    Topic(
        "make the {x} cry",
        ("singer", "baker", "student", "waiter"),
        (
            ("call him stupid names", "stupid names you call him"),
            ("spread an ugly lie", "an ugly lie you spread"),
            ("break his best cup", "you break his cup"),
        ),
        reason=("cruel words stay long", "long will cruel words stay"),
        alternative=("say you are angry", "be angry and say so"),
        category="Psychological Harm",
    ),
    Topic(
        "trick the {x} into paying",
        ("tourist", "farmer", "singer", "student"),
        (
            ("tell a sad story", "a sad story you tell"),
            ("promise a big prize", "a big prize you promise"),
            ("count the coins wrong", "wrong you count the coins"),
        ),
        reason=("their trust is precious", "precious is their trust"),
        alternative=("earn it with honest work", "you can earn it with honest work"),
        category="Mental Manipulation",
    ),
)
