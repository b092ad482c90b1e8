//! The words that generated rows are made of. Country names are facts; everything else was made up for this file.

use super::Dice;

/// One of `words`.
pub(super) fn pick<'a>(words: &[&'a str], dice: &mut Dice) -> &'a str {
    words[dice.below(words.len() as u64) as usize]
}

/// A category of posts.
pub(super) struct Category {
    pub(super) name: &'static str,
    /// How many posts it has.
    pub(super) posts: u64,
    /// What they are about.
    pub(super) subjects: &'static [&'static str],
}

/// The categories in the order of the posts.
#[rustfmt::skip] // One subject a line would be pages of single words.
pub(super) const CATEGORIES: &[Category] = &[
    Category { name: "art", posts: 944, subjects: &[
        "Acrylic Pouring", "Charcoal Portraits", "Watercolour Landscapes", "Linocut Prints", "Abstract Canvas",
        "Sketchbook Pages", "Paper Sculpture", "Gouache Botanicals", "Palette Knife Painting", "Ink Drawing",
        "Clay Figures", "Collage Layers",
    ] },
    Category { name: "beauty", posts: 734, subjects: &[
        "Evening Skin Care", "Curly Hair Care", "Short Nail Shapes", "Lip Balm Recipes", "Braided Updos",
        "Clay Masks", "Brow Shaping", "Fresh Face Makeup", "Scalp Massage", "Rosewater Toner", "Blush Placement",
        "Silk Hair Wraps",
    ] },
    Category { name: "christmas", posts: 1149, subjects: &[
        "Tree Ribbons", "Advent Calendars", "Gingerbread Villages", "Front Door Wreaths", "Wool Stockings",
        "Mantel Garlands", "Felt Ornaments", "Table Candles", "Gift Wrapping", "Cinnamon Stars", "Window Stars",
        "Snow Globe Jars",
    ] },
    Category { name: "diy-and-crafts", posts: 836, subjects: &[
        "Macrame Knots", "Felted Coasters", "Pressed Flower Frames", "Crochet Granny Squares", "Tin Can Lanterns",
        "Block Printed Napkins", "Air Dry Clay Bowls", "Bead Weaving", "Patchwork Bags", "Rope Baskets",
        "Embroidered Patches", "Cardboard Castles",
    ] },
    Category { name: "education", posts: 887, subjects: &[
        "Phonics Games", "Number Lines", "Classroom Corners", "Science Jars", "Reading Logs", "Spelling Cards",
        "Map Puzzles", "Fraction Strips", "Morning Circle Songs", "Alphabet Trays", "Weather Charts", "Story Dice",
    ] },
    Category { name: "event-planning", posts: 785, subjects: &[
        "Garden Parties", "Seating Charts", "Balloon Arches", "Picnic Birthdays", "Table Numbers", "Lantern Walks",
        "Baby Showers", "Retirement Dinners", "Photo Corners", "Brunch Buffets", "Paper Fans", "Guest Books",
    ] },
    Category { name: "finance", posts: 830, subjects: &[
        "Cash Envelopes", "Savings Challenges", "Meal Budgets", "Emergency Funds", "Debt Trackers", "Side Income",
        "No Spend Weeks", "Pension Basics", "Grocery Lists", "Bill Calendars", "Thrifty Routines", "Money Journals",
    ] },
    Category { name: "home-decor", posts: 810, subjects: &[
        "Open Shelving", "Reading Nooks", "Small Hallways", "Linen Curtains", "Gallery Walls", "Rattan Lamps",
        "Bathroom Tiles", "Painted Arches", "Kitchen Islands", "Plant Corners", "Bunk Rooms", "Warm Neutrals",
    ] },
    Category { name: "mens-fashion", posts: 817, subjects: &[
        "Linen Suits", "Denim Layers", "Leather Boots", "Knitted Polos", "Rain Jackets", "Wide Trousers",
        "Summer Shirts", "Wool Overcoats", "Canvas Sneakers", "Pocket Squares", "Field Watches", "Chore Coats",
    ] },
    Category { name: "quotes", posts: 881, subjects: &[
        "Morning Thoughts", "Courage Lines", "Friendship Words", "Slow Living Notes", "Garden Proverbs",
        "Rainy Day Verses", "Moving On", "Quiet Strength", "Birthday Wishes", "New Chapters", "Kind Reminders",
        "Sunday Sayings",
    ] },
    Category { name: "tattoos", posts: 861, subjects: &[
        "Fine Line Ferns", "Forearm Maps", "Tiny Moons", "Blackwork Moths", "Ankle Waves", "Dotwork Suns",
        "Matching Keys", "Botanical Sleeves", "Paper Planes", "Compass Roses", "Shoulder Swallows", "Mountain Bands",
    ] },
    Category { name: "travel", posts: 861, subjects: &[
        "Coastal Trains", "Island Ferries", "Mountain Huts", "Carry On Packing", "Night Markets", "Lake Towns",
        "Desert Camps", "City Tram Rides", "Vineyard Walks", "Fjord Viewpoints", "Canal Weekends",
        "Lighthouse Routes",
    ] },
    Category { name: "vehicles", posts: 759, subjects: &[
        "Camper Vans", "Vintage Scooters", "Cargo Bikes", "Rally Cars", "Wooden Dashboards", "Roof Tents",
        "Three Wheelers", "Electric Hatchbacks", "Tow Trailers", "Café Racers", "Sidecars", "Pickup Restorations",
    ] },
];

/// What a post says of its subject.
#[rustfmt::skip] // As above.
pub(super) const QUALITIES: &[&str] = &[
    "Simple", "Bold", "Gentle", "Weekend", "Budget-Friendly", "Timeless", "Playful", "Calm", "Bright", "Handmade",
    "Modern", "Rustic", "Unexpected", "Cosy", "Easy", "Clever", "Colourful", "Minimal", "Slow", "Honest",
    "Five-Minute", "Seasonal", "Soft", "Practical",
];

/// How a title goes on.
#[rustfmt::skip] // As above.
pub(super) const ENDINGS: &[&str] = &[
    "for Beginners", "You Can Start Tonight", "for Small Spaces", "Worth Saving", "That Last", "on a Rainy Day",
    "for the Whole Family", "Step by Step", "Before Spring", "We Keep Coming Back To", "With What You Have",
    "in One Afternoon", "for Patient People", "Our Readers Sent In", "From A to Z", "Without the Fuss",
];

/// Sentences of a description: `{}` is a subject, `[]` a quality.
#[rustfmt::skip] // As above.
pub(super) const SENTENCES: &[&str] = &[
    "We tried {} for a month and wrote down what worked.", "[] {} need less time than you think.",
    "Here is everything we know about {}, with a list of what to buy and what to skip.",
    "{} made our spring a little brighter.",
    "Save this for later: [] {} with plain instructions and no special tools.",
    "My neighbour taught me {} and I have not stopped since.", "Start with one evening, a cup of tea and {}.",
    "Not sure where to begin? [] {} are a good first step, and mistakes are half the fun.",
    "The best part of {} is how quickly you see a result.", "Follow along for more {} and the occasional failure.",
    "A short list of [] {} that our readers voted for.", "What nobody told us about {} before we began.",
    "Twelve photographs, one colour and a lot of {}.", "If you like things [], you will like this take on {}.",
    "Measured, tested and repeated: {} that hold up.",
];

/// First words of a name under which somebody posts.
#[rustfmt::skip] // As above.
pub(super) const BRANDS: &[&str] = &[
    "Marigold", "Northlight", "Tin Kettle", "Juniper", "Paper Boat", "Saltwood", "Little Harbour", "Foxglove",
    "Open Window", "Copper Lane", "Moth & Moon", "Larkspur", "Second Cup", "Quiet Hill", "Blue Barrow", "Honeycomb",
    "Old Orchard", "Tidewater", "Pebble", "Wren",
];

/// What follows in such a name.
#[rustfmt::skip] // As above.
pub(super) const TRADES: &[&str] = &[
    "Studio", "Workshop", "Journal", "Collective", "Kitchen", "Atelier", "Notebook", "House", "Supply", "Diaries",
    "Club", "Press",
];

/// What follows a subject in a tag.
#[rustfmt::skip] // As above.
pub(super) const TAG_ENDINGS: &[&str] = &[
    "Ideas", "Inspiration", "DIY", "Tips", "Aesthetic", "Tutorial", "Designs", "Basics", "Trends", "At Home",
];

/// Pictures in a text.
#[rustfmt::skip] // As above.
pub(super) const EMOJI: &[&str] = &[
    "✨", "🌿", "🎄", "❤️", "😍", "🔥", "🌊", "🎨", "☕", "👇", "🧵", "🚲",
];

/// First names.
#[rustfmt::skip] // As above.
pub(super) const FIRST_NAMES: &[&str] = &[
    "Ada", "Alma", "Amir", "Anders", "Anja", "Arlo", "Astrid", "Aziz", "Bea", "Ben", "Bilal", "Bo", "Carla", "Cem",
    "Chen", "Clara", "Dagny", "Dalia", "Dario", "Devi", "Dina", "Edda", "Eero", "Elif", "Elio", "Emeka", "Ester",
    "Eve", "Farid", "Fern", "Filip", "Freya", "Gael", "Gita", "Greta", "Hana", "Hari", "Hedda", "Hugo", "Ida", "Ilse",
    "Imani", "Ines", "Isak", "Ivo", "Jana", "Joel", "Jonas", "Juno", "Kai", "Kamal", "Karin", "Kofi", "Lale", "Lars",
    "Leila", "Lena", "Levi", "Lino", "Liv", "Lotta", "Luka", "Mads", "Maia", "Malik", "Marit", "Mei", "Mika", "Mina",
    "Moss", "Nadia", "Nell", "Nico", "Nils", "Noor", "Odile", "Olga", "Omar", "Otto", "Paz", "Pelle", "Pia", "Quinn",
    "Rafa", "Ravi", "Rhea", "Rosa", "Runa", "Sami", "Sana", "Signe", "Silas", "Sofie", "Sten", "Suri", "Taiwo",
    "Tara", "Theo", "Tilda", "Tova", "Ulla", "Uma", "Vera", "Vigo", "Wanda", "Wim", "Xenia", "Yara", "Yusuf", "Zadie",
    "Zeno", "Zoe",
];

/// Last names.
#[rustfmt::skip] // As above.
pub(super) const LAST_NAMES: &[&str] = &[
    "Abara", "Adler", "Aldana", "Amsel", "Arden", "Ashby", "Bakke", "Barros", "Becker", "Bergan", "Birch", "Blom",
    "Borges", "Brandt", "Brook", "Byrne", "Calder", "Castan", "Cervantez", "Cho", "Clay", "Corso", "Dahl", "Danso",
    "Dask", "Demir", "Dorn", "Duarte", "Eide", "Ekwall", "Elm", "Engstad", "Ersoy", "Fabre", "Falk", "Farrow", "Fenn",
    "Ferro", "Finch", "Fjeld", "Garde", "Glass", "Goto", "Grane", "Gupta", "Haddad", "Hale", "Hart", "Havel", "Heron",
    "Holt", "Hood", "Ibsen", "Idris", "Iyer", "Jarvis", "Jensby", "Joshi", "Kade", "Kaplan", "Karel", "Keane",
    "Kimura", "Klee", "Kovac", "Krog", "Lamont", "Lang", "Larkin", "Leto", "Lind", "Loewe", "Lund", "Mabry", "Malin",
    "Marsh", "Mensah", "Milo", "Moreau", "Munk", "Nakano", "Nash", "Nordin", "Novak", "Oakes", "Obi", "Okafor",
    "Olsen", "Orr", "Osei", "Padron", "Park", "Peek", "Perrin", "Quist", "Rahm", "Ramos", "Reed", "Rigby", "Roan",
    "Rook", "Rowe", "Sabo", "Salo", "Sand", "Sharma", "Shore", "Skov", "Sloane", "Sobel", "Stroud", "Sund", "Tanaka",
    "Thorn", "Tiller", "Torres", "Ueda", "Vance", "Varga", "Vidal", "Voss", "Wale", "Weir", "Wilde", "Winther",
    "Wolfe", "Yilmaz", "York", "Zafar", "Ziegler",
];

/// Countries and territories.
#[rustfmt::skip] // As above.
pub(super) const COUNTRIES: &[&str] = &[
    "Afghanistan", "Albania", "Algeria", "American Samoa", "Andorra", "Angola", "Anguilla",
    "Antarctica (the territory South of 60 deg S)", "Antigua and Barbuda", "Argentina", "Armenia", "Aruba",
    "Australia", "Austria", "Azerbaijan", "Bahamas", "Bahrain", "Bangladesh", "Barbados", "Belarus", "Belgium",
    "Belize", "Benin", "Bermuda", "Bhutan", "Bolivia", "Bosnia and Herzegovina", "Botswana",
    "Bouvet Island (Bouvetoya)", "Brazil", "British Indian Ocean Territory (Chagos Archipelago)",
    "British Virgin Islands", "Brunei Darussalam", "Bulgaria", "Burkina Faso", "Burundi", "Cambodia", "Cameroon",
    "Canada", "Cape Verde", "Cayman Islands", "Central African Republic", "Chad", "Chile", "China",
    "Christmas Island", "Cocos (Keeling) Islands", "Colombia", "Comoros", "Congo", "Cook Islands", "Costa Rica",
    "Cote d'Ivoire", "Croatia", "Cuba", "Cyprus", "Czech Republic", "Denmark", "Djibouti", "Dominica",
    "Dominican Republic", "Ecuador", "Egypt", "El Salvador", "Equatorial Guinea", "Eritrea", "Estonia", "Ethiopia",
    "Falkland Islands (Malvinas)", "Faroe Islands", "Fiji", "Finland", "France", "French Guiana", "French Polynesia",
    "French Southern Territories", "Gabon", "Gambia", "Georgia", "Germany", "Ghana", "Gibraltar", "Greece",
    "Greenland", "Grenada", "Guadeloupe", "Guam", "Guatemala", "Guernsey", "Guinea", "Guinea-Bissau", "Guyana",
    "Haiti", "Heard Island and McDonald Islands", "Holy See (Vatican City State)", "Honduras", "Hong Kong", "Hungary",
    "Iceland", "India", "Indonesia", "Iran", "Iraq", "Ireland", "Isle of Man", "Israel", "Italy", "Jamaica", "Japan",
    "Jersey", "Jordan", "Kazakhstan", "Kenya", "Kiribati", "Korea", "Kuwait", "Kyrgyz Republic",
    "Lao People's Democratic Republic", "Latvia", "Lebanon", "Lesotho", "Liberia", "Libyan Arab Jamahiriya",
    "Liechtenstein", "Lithuania", "Luxembourg", "Macao", "Macedonia", "Madagascar", "Malawi", "Malaysia", "Maldives",
    "Mali", "Malta", "Marshall Islands", "Martinique", "Mauritania", "Mauritius", "Mayotte", "Mexico", "Micronesia",
    "Moldova", "Monaco", "Mongolia", "Montenegro", "Montserrat", "Morocco", "Mozambique", "Myanmar", "Namibia",
    "Nauru", "Nepal", "Netherlands", "Netherlands Antilles", "New Caledonia", "New Zealand", "Nicaragua", "Niger",
    "Nigeria", "Niue", "Norfolk Island", "Northern Mariana Islands", "Norway", "Oman", "Pakistan", "Palau",
    "Palestinian Territory", "Panama", "Papua New Guinea", "Paraguay", "Peru", "Philippines", "Pitcairn Islands",
    "Poland", "Portugal", "Puerto Rico", "Qatar", "Reunion", "Romania", "Russian Federation", "Rwanda",
    "Saint Barthelemy", "Saint Helena", "Saint Kitts and Nevis", "Saint Lucia", "Saint Martin",
    "Saint Pierre and Miquelon", "Saint Vincent and the Grenadines", "Samoa", "San Marino", "Sao Tome and Principe",
    "Saudi Arabia", "Senegal", "Serbia", "Seychelles", "Sierra Leone", "Singapore", "Slovakia (Slovak Republic)",
    "Slovenia", "Solomon Islands", "Somalia", "South Africa", "South Georgia and the South Sandwich Islands", "Spain",
    "Sri Lanka", "Sudan", "Suriname", "Svalbard & Jan Mayen Islands", "Swaziland", "Sweden", "Switzerland",
    "Syrian Arab Republic", "Taiwan", "Tajikistan", "Tanzania", "Thailand", "Timor-Leste", "Togo", "Tokelau", "Tonga",
    "Trinidad and Tobago", "Tunisia", "Turkey", "Turkmenistan", "Turks and Caicos Islands", "Tuvalu", "Uganda",
    "Ukraine", "United Arab Emirates", "United Kingdom", "United States Minor Outlying Islands",
    "United States Virgin Islands", "United States of America", "Uruguay", "Uzbekistan", "Vanuatu", "Venezuela",
    "Vietnam", "Wallis and Futuna", "Western Sahara", "Yemen", "Zambia", "Zimbabwe",
];
