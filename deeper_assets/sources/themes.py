"""What synthetic items are called: eight themes of ten words a domain, and patterns that make titles of them.

The words are frequent in titles of such items. Most titles hold a word of the item's theme (at
`{word}`), so they show what a user likes. What stands at `{other}` has nothing to do with taste.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Catalogue:
    """One domain's themes (name → words), title patterns, and the words that fill their other place."""

    themes: Mapping[str, tuple[str, ...]]
    patterns: tuple[str, ...]
    others: tuple[str, ...]


def _catalogue(patterns: tuple[str, ...], others: str, **themes: str) -> Catalogue:
    words_of = {theme: tuple(words.split()) for theme, words in themes.items()}
    return Catalogue(words_of, patterns, tuple(others.split()))


_BRANDS = "Alder Brightwell Corvane Dunmore Elmstead Fairholt Greyford Halden Ironwick Kestrel Lowell Marlow"
_COLOURS = "Red Blue Green Black White Grey Navy Purple Orange Brown Yellow Silver"
_PLACES = "Elm Maple Oak River Harbor Hill Spring Lake Mill Market Bridge Station"
_NAMES = "Winter Summer Midnight Morning Autumn Yesterday Tomorrow Sunday Harlow Ashford Linden Wexley"

CATALOGUES: Mapping[str, Catalogue] = {
    "recipe": _catalogue(
        ("{other} {word}", "{other} {word} Supper", "Grandma's {other} {word}", "{word} the {other} Way"),
        "Easy Quick Simple Classic Homemade Country Weeknight Skillet Favorite Best Slow Baked",
        poultry="Chicken Turkey Duck Hen Wings Drumsticks Quail Goose Cutlets Pheasant",
        beef="Beef Steak Meatloaf Brisket Burgers Meatballs Sirloin Ribs Pot-Roast Chili",
        fish="Salmon Shrimp Tuna Crab Cod Scallops Lobster Tilapia Clams Halibut",
        cakes="Cake Brownies Cupcakes Cookies Cheesecake Fudge Pie Tart Muffins Pudding",
        vegetables="Broccoli Spinach Zucchini Carrots Cauliflower Asparagus Cabbage Kale Eggplant Mushrooms",
        pasta="Spaghetti Lasagna Macaroni Ravioli Penne Fettuccine Linguine Gnocchi Noodles Tortellini",
        bread="Bread Biscuits Rolls Focaccia Bagels Pancakes Waffles Scones Cornbread Pretzels",
        hot="Jalapeno Curry Salsa Enchiladas Tacos Sriracha Cayenne Burritos Fajitas Vindaloo",
    ),
    "book": _catalogue(
        (
            "The {word} of {other}",
            "A {word} in {other}",
            "{other}'s {word}",
            "The Last {word}: {other}, Book 2",
        ),
        _NAMES,
        fantasy="Dragon Wizard Sword Throne Magic Elf Kingdom Sorceress Prophecy Quest",
        crime="Murder Detective Killer Witness Crime Suspect Corpse Alibi Homicide Clue",
        romance="Kiss Bride Duke Wedding Heart Lover Highlander Seduction Rake Billionaire",
        space="Galaxy Starship Robot Alien Planet Mars Android Colony Orbit Asteroid",
        history="War Empire General Revolution Battle Soldier President Treaty Siege Spy",
        fright="Vampire Ghost Werewolf Demon Zombie Haunting Graveyard Curse Witch Nightmare",
        living="Diet Habits Happiness Meditation Yoga Leadership Money Cookbook Productivity Wellness",
        childhood="Puppy Bunny Fairy Bear Kitten Princess Pirate Dinosaur Duckling Unicorn",
    ),
    "clothing": _catalogue(
        (
            "{other} Women's {word}",
            "{other} Men's {word}",
            "{other} Classic {word}",
            "{other} Comfort {word}",
        ),
        _BRANDS,
        shoes="Sneakers Boots Sandals Loafers Clogs Flats Heels Slippers Oxfords Flip-Flops",
        underwear="Socks Bra Panties Briefs Boxers Tights Hosiery Camisole Thermals Leggings",
        jewelry="Necklace Earrings Bracelet Ring Pendant Brooch Anklet Charm Cufflinks Locket",
        tops="T-Shirt Blouse Polo Tank-Top Tunic Henley Turtleneck Button-Down Sweatshirt Tee",
        outdoors="Jacket Parka Raincoat Fleece Vest Gloves Scarf Beanie Windbreaker Coat",
        dresses="Dress Skirt Gown Maxi-Dress Romper Sundress Jumpsuit Petticoat Wrap-Dress Kimono",
        bags="Handbag Backpack Wallet Tote Purse Luggage Messenger Clutch Duffel Satchel",
        trousers="Jeans Shorts Chinos Sweatpants Overalls Khakis Joggers Corduroys Capris Cargo-Pants",
    ),
    "local_business": _catalogue(
        (
            "{other} Street {word}",
            "{other} {word}, 12 Main St",
            "The {other} {word}",
            "{word} at {other} Plaza",
        ),
        _PLACES,
        italian="Pizzeria Trattoria Ristorante Pizza Osteria Pasta Calzones Gelato Panini Deli",
        asian="Sushi Ramen Thai Dumplings Noodles Teriyaki Wok Pho Hibachi Szechuan",
        drinks="Tavern Pub Brewery Bar Winery Taproom Cocktails Saloon Distillery Lounge",
        breakfast="Cafe Coffee Bakery Diner Bagels Donuts Espresso Pancakes Creamery Tea",
        cars="Garage Tires Dealership Carwash Collision Muffler Auto Transmission Gas Towing",
        nature="Zoo Park Trail Garden Beach Campground Preserve Farm Marina Arboretum",
        beauty="Salon Barber Spa Nails Massage Tanning Dentist Eyebrows Yoga Gym",
        shops="Hardware Bookstore Pharmacy Boutique Supermarket Furniture Florist Jeweler Toys Mall",
    ),
    "movies_tv": _catalogue(
        (
            "The {word} of {other}",
            "{word} in {other}",
            "{other} {word}: The Complete Season",
            "Return of the {word}",
        ),
        _NAMES,
        fight="Ninja Commando Sniper Fugitive Kickboxer Assassin Heist Explosion Mercenary Gunfight",
        fright="Zombie Vampire Haunted Exorcist Slasher Demon Scream Werewolf Possession Cannibal",
        laughter="Comedy Prank Clown Roommates Bachelor Hangover Goofball Idiots Sitcom Wingman",
        romance="Wedding Love Kiss Bride Valentine Sweetheart Honeymoon Matchmaker Proposal Romance",
        space="Starship Alien Robot Galaxy Cyborg Astronaut Planet Meteor Clone Invasion",
        crime="Detective Murder Gangster Mafia Cop Inspector Killer Sheriff Trial Prison",
        family="Puppy Santa Princess Dinosaur Christmas Penguin Snowman Fairy Pony Mermaid",
        documents="History Nature Ocean Concert Biography Wildlife Pyramids Ballet Opera Evolution",
    ),
    "movielens": _catalogue(
        (
            "The {word} of {other} (1994)",
            "{word} in {other} (1999)",
            "{other} {word} (2003)",
            "My {word} (1987)",
        ),
        _NAMES,
        fantasy="Dragon Wizard Sword Ring Magic Kingdom Unicorn Labyrinth Spell Elf",
        fright="Zombie Vampire Haunting Exorcist Slasher Demon Scream Werewolf Curse Graveyard",
        fight="Ninja Commando Sniper Fugitive Kickboxer Assassin Heist Warrior Mercenary Hitman",
        romance="Wedding Love Kiss Bride Valentine Sweetheart Honeymoon Matchmaker Proposal Affair",
        space="Starship Alien Robot Galaxy Cyborg Astronaut Planet Meteor Clone Terminator",
        crime="Detective Murder Gangster Mafia Cop Suspect Killer Sheriff Conspiracy Prison",
        family="Puppy Santa Princess Dinosaur Christmas Penguin Toy Fairy Pony Mermaid",
        war="War Soldier Battle Submarine General Platoon Trenches Bomber Hero Resistance",
    ),
    "arts_crafts_sewing": _catalogue(
        (
            "{other} {word} Set",
            "{other} {word}, Assorted Colors",
            "{other} Premium {word}",
            "{other} {word} Kit",
        ),
        _BRANDS,
        yarn="Yarn Wool Crochet Knitting Skein Cashmere Alpaca Needles Loom Mohair",
        paint="Acrylic Watercolor Paint Brushes Easel Canvas Gouache Palette Gesso Oils",
        beads="Beads Pearls Wire Clasps Pendant Charms Jewelry Crystals Gemstone Pliers",
        paper="Cardstock Scrapbook Stickers Stamps Origami Envelopes Embossing Vellum Punch Album",
        sewing="Thread Fabric Quilt Bobbin Scissors Zipper Batting Muslin Buttons Felt",
        drawing="Pencils Markers Sketchbook Charcoal Pastels Eraser Ink Crayons Sharpener Pens",
        clay="Clay Sculpting Resin Mold Plaster Kiln Pottery Epoxy Glaze Mosaic",
        holiday="Ribbon Glitter Wreath Garland Ornament Tinsel Bows Confetti Balloons Lace",
    ),
    "automotive": _catalogue(
        (
            "{other} {word}",
            "{other} Heavy Duty {word}",
            "{other} Universal {word}",
            "{other} {word} for Trucks",
        ),
        _BRANDS,
        light="Headlight Bulb LED Taillight Lamp Lightbar Reflector Halogen Spotlight Flashlight",
        cleaning="Wax Polish Shampoo Microfiber Detailer Towel Foam Degreaser Sponge Cleaner",
        engine="Spark-Plug Piston Gasket Camshaft Alternator Radiator Carburetor Thermostat Turbo Manifold",
        fluids="Oil Coolant Antifreeze Lubricant Additive Grease Brake-Fluid Sealant Filter Stabilizer",
        inside="Seat-Cover Floor-Mat Steering-Wheel Cupholder Sunshade Organizer Cushion Armrest Dash Visor",
        tools="Wrench Jack Socket Torque Compressor Multimeter Scanner Gauge Pump Charger",
        towing="Hitch Trailer Winch Strap Towing Ramp Tarp Coupler Tie-Down Wheel-Chock",
        motorcycle="Motorcycle Helmet Goggles Saddlebag Handlebar Throttle Fairing Chain Sprocket Kickstand",
    ),
    "sports_outdoors": _catalogue(
        ("{other} {word}", "{other} Pro {word}", "{other} Lightweight {word}", "{other} {word} with Case"),
        _BRANDS,
        camping="Tent Sleeping-Bag Lantern Hammock Stove Campfire Cooler Canteen Backpack Tarp",
        fishing="Fishing Lure Reel Tackle Rod Bait Bobber Waders Hook Kayak",
        hunting="Rifle Scope Holster Ammo Crossbow Decoy Camo Arrow Binoculars Knife",
        fitness="Dumbbell Treadmill Yoga Kettlebell Barbell Resistance-Band Pull-Up Exercise Weight Gym",
        cycling="Bicycle Bike Pedal Saddle Handlebar Derailleur Tire Helmet Spokes Cycling",
        ballgames="Basketball Football Baseball Soccer Volleyball Golf Tennis Hockey Softball Racket",
        water="Swim Goggles Snorkel Paddle Surfboard Wetsuit Life-Jacket Fins Pool Raft",
        winter="Ski Snowboard Sled Snowshoe Skate Beanie Balaclava Mittens Ice Thermal",
    ),
    "grocery": _catalogue(
        (
            "{other} Organic {word}",
            "{other} {word}, 12 oz",
            "{other} {word} (Pack of 6)",
            "{other} Natural {word}",
        ),
        _BRANDS,
        coffee="Coffee Espresso K-Cups Decaf Latte Arabica Mocha Cappuccino Roast Cocoa",
        tea="Tea Chai Matcha Oolong Chamomile Rooibos Peppermint Earl-Grey Jasmine Hibiscus",
        sweets="Chocolate Candy Gummies Caramel Licorice Truffles Toffee Lollipops Marshmallows Fudge",
        salty="Chips Pretzels Popcorn Crackers Jerky Cashews Almonds Peanuts Pistachios Tortilla",
        spice="Pepper Salsa Curry Cinnamon Hot-Sauce Mustard Wasabi Paprika Garlic Sriracha",
        cereal="Oatmeal Granola Cereal Quinoa Muesli Flour Pancake Bran Chia Flaxseed",
        tins="Soup Tuna Beans Sardines Tomatoes Noodles Broth Chili Salmon Pasta",
        bottles="Juice Soda Lemonade Coconut-Water Cola Kombucha Seltzer Syrup Smoothie Energy-Drink",
    ),
}

# For a domain of the user's own: themes that could be anybody's, and the item type in the title.
_NEUTRAL = {
    "animals": "Dragon Horse Cat Dog Bear Owl Fox Whale Wolf Rabbit",
    "nature": "Forest Ocean Mountain River Garden Desert Meadow Island Storm Valley",
    "food": "Chocolate Coffee Cherry Honey Ginger Lemon Pepper Vanilla Apple Cinnamon",
    "machines": "Robot Engine Rocket Motor Turbine Circuit Laser Gear Piston Radar",
    "history": "Castle Knight Empire Viking Pharaoh Pirate Crown Temple Samurai Legend",
    "feelings": "Love Joy Dream Hope Sorrow Laughter Courage Comfort Desire Peace",
    "fright": "Ghost Vampire Murder Shadow Skull Curse Demon Grave Witch Venom",
    "music": "Jazz Guitar Piano Drum Opera Violin Rock Blues Trumpet Choir",
}


def catalogue(domain: str, item_type: str) -> Catalogue:
    """The catalogue of one of the ten domains; for any other a neutral one that names the item type."""
    if domain in CATALOGUES:
        return CATALOGUES[domain]
    what = item_type.title().replace("{", "").replace("}", "") or "Item"
    patterns = (
        f"{{other}} {{word}} {what}",
        f"The {{word}} {what} of {{other}}",
        f"{what} {{word}} in {{other}}",
    )
    return _catalogue(patterns, _COLOURS, **_NEUTRAL)
