//! Common words, to spell, sort and turn round.

/// English words of 4 to 12 small letters, in alphabetical order. Without "word" and "letter", which
/// the questions have of their own.
#[rustfmt::skip]
pub(crate) const WORDS: [&str; 481] = [
    "account", "actor", "address", "adventure", "airplane", "airport", "alphabet", "angel",
    "angle", "angry", "ankle", "answer", "apple", "assessment", "aunt", "autumn", "baby", "baker",
    "bakery", "balance", "balloon", "bamboo", "banana", "barrel", "basket", "basketball",
    "bathroom", "battery", "battle", "beach", "beautiful", "bedroom", "beetle", "beginning",
    "bicycle", "biology", "birthday", "biscuit", "blanket", "blood", "blueberry", "boat", "body",
    "bone", "border", "bottle", "brain", "branch", "bread", "breakfast", "bridge", "bright",
    "broccoli", "brother", "bucket", "business", "butcher", "butter", "butterfly", "button",
    "cabbage", "cactus", "calendar", "camera", "candle", "captain", "carpenter", "carpet",
    "carrot", "castle", "ceiling", "century", "chair", "champion", "chapter", "cheese",
    "chemistry", "cherry", "chicken", "child", "chocolate", "church", "cinema", "circle", "city",
    "clean", "clever", "clock", "closed", "cloud", "coconut", "coffee", "committee", "company",
    "computer", "concert", "copper", "corner", "cotton", "country", "courage", "cousin",
    "cucumber", "curtain", "customer", "daisy", "dancer", "dangerous", "dark", "daughter", "deep",
    "defeat", "desert", "devil", "dictionary", "different", "difficult", "dinner", "dirty",
    "discount", "distance", "doctor", "dollar", "dolphin", "donkey", "dragon", "drum", "duck",
    "eagle", "early", "earth", "elbow", "elephant", "empty", "enemy", "engine", "engineer",
    "envelope", "evening", "example", "exercise", "face", "factory", "failure", "falcon", "family",
    "farmer", "father", "ferry", "figure", "finger", "fire", "floor", "flower", "flute",
    "football", "forest", "freedom", "friend", "full", "future", "garden", "garlic", "gentle",
    "geography", "ghost", "giraffe", "glass", "gloves", "goat", "golden", "goose", "gorilla",
    "grammar", "grape", "grass", "guest", "guitar", "hammer", "hamster", "happy", "harbour",
    "head", "heart", "heavy", "height", "helicopter", "history", "hockey", "holiday", "honest",
    "honey", "horse", "hospital", "hotel", "hour", "house", "hungry", "husband", "important",
    "interest", "interesting", "iron", "island", "jacket", "journey", "judge", "justice",
    "kangaroo", "keyboard", "king", "kitchen", "knee", "knight", "knowledge", "ladder", "lamp",
    "language", "late", "laughter", "lawyer", "leaf", "leather", "lemon", "length", "lesson",
    "lettuce", "library", "light", "lightning", "lion", "lizard", "lonely", "luggage",
    "lunch", "magazine", "manager", "maple", "marble", "market", "mathematics", "mattress",
    "measure", "medal", "melon", "message", "metal", "milk", "minister", "minute", "mirror",
    "mistake", "moment", "money", "monkey", "monster", "month", "morning", "mosquito", "mother",
    "motorcycle", "mountain", "mouth", "muscle", "museum", "mushroom", "music", "mystery",
    "narrow", "nation", "necessary", "needle", "neighbour", "nephew", "newspaper", "night",
    "noisy", "nose", "novel", "number", "nurse", "ocean", "office", "onion", "open", "orange",
    "orchestra", "painter", "palace", "paper", "parallel", "parcel", "parrot", "passport", "past",
    "pasta", "peace", "peach", "pencil", "penguin", "people", "pepper", "person", "pharmacy",
    "physics", "piano", "picture", "pigeon", "pillow", "pineapple", "pirate", "planet", "plastic",
    "player", "plumber", "pocket", "poem", "poet", "police", "polite", "possession", "potato",
    "present", "president", "price", "prince", "princess", "printer", "prison", "problem",
    "product", "professor", "profit", "pumpkin", "puppet", "puzzle", "queen", "question", "quick",
    "quiet", "rabbit", "radio", "rainbow", "raspberry", "receipt", "rectangle", "referee",
    "restaurant", "ribbon", "rice", "river", "rocket", "root", "rough", "sailor", "salad",
    "sandwich", "scarf", "school", "science", "scientist", "season", "secret", "secretary", "seed",
    "sentence", "service", "shallow", "shark", "sharp", "sheep", "ship", "shirt", "shoes",
    "shoulder", "shovel", "silk", "silver", "singer", "sister", "skating", "skin", "slow", "smile",
    "smooth", "snake", "snow", "socks", "soldier", "solution", "soup", "sparrow", "speed",
    "spider", "spinach", "spring", "square", "squirrel", "stadium", "stamp", "station", "stomach",
    "stone", "storm", "story", "stranger", "strawberry", "street", "strong", "student", "stupid",
    "success", "successful", "sugar", "suitcase", "summer", "supper", "swan", "swimming", "table",
    "teacher", "telephone", "television", "temple", "tennis", "theatre", "thirsty", "thumb",
    "thunder", "ticket", "tiger", "tired", "today", "tomato", "tomorrow", "tongue", "tooth",
    "tower", "train", "treasure", "tree", "triangle", "trophy", "trousers", "trumpet", "tulip",
    "turkey", "turtle", "umbrella", "uncle", "vacation", "valley", "victory", "village", "vinegar",
    "violin", "voice", "wallet", "watch", "water", "weak", "weather", "week", "weight", "whale",
    "wheel", "wide", "wife", "willow", "wind", "window", "winter", "wisdom", "wizard", "wonderful",
    "wood", "wool", "wrist", "writer", "year", "yesterday",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks with: a word twice, a capital or a mark in one, a word too long or too short.
    #[test]
    fn words_are_small_letters_and_different() {
        assert!(WORDS.is_sorted_by(|a, b| a < b));
        for word in WORDS {
            assert!((4..=12).contains(&word.len()), "{word}");
            assert!(word.chars().all(|c| c.is_ascii_lowercase()), "{word}");
        }
    }
}
