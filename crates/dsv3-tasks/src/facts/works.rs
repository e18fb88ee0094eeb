//! Books, paintings, music.

use super::Relation;

pub(super) const BOOKS: Relation = Relation {
    name: "book",
    wordings: &[
        "Who wrote {s}?",
        "Who is the author of {s}?",
        "Which author wrote {s}?",
        "By whom is the book {s}?",
        "Name the author of {s}.",
        "Who was the writer of {s}?",
    ],
    recall: "{s} was written by {a}.",
    rows: &[
        ("Hamlet", "Shakespeare"),
        ("Romeo and Juliet", "Shakespeare"),
        ("Macbeth", "Shakespeare"),
        ("Don Quixote", "Cervantes"),
        ("War and Peace", "Tolstoy"),
        ("Anna Karenina", "Tolstoy"),
        ("Crime and Punishment", "Dostoevsky"),
        ("Pride and Prejudice", "Jane Austen"),
        ("Sense and Sensibility", "Jane Austen"),
        ("Oliver Twist", "Dickens"),
        ("Great Expectations", "Dickens"),
        ("David Copperfield", "Dickens"),
        ("Frankenstein", "Mary Shelley"),
        ("Dracula", "Bram Stoker"),
        ("Moby Dick", "Melville"),
        ("Animal Farm", "George Orwell"),
        ("The Hobbit", "Tolkien"),
        ("Faust", "Goethe"),
        ("The Odyssey", "Homer"),
        ("The Iliad", "Homer"),
        ("The Divine Comedy", "Dante"),
        ("Robinson Crusoe", "Defoe"),
        ("Treasure Island", "Stevenson"),
        ("The Jungle Book", "Kipling"),
        ("The Trial", "Kafka"),
        ("Ulysses", "James Joyce"),
    ],
};

pub(super) const PAINTINGS: Relation = Relation {
    name: "painting",
    wordings: &[
        "Who painted {s}?",
        "Which painter made {s}?",
        "By whom is the painting {s}?",
        "Name the painter of {s}.",
        "Who is the painter of {s}?",
    ],
    recall: "{s} was painted by {a}.",
    rows: &[
        ("the Mona Lisa", "Leonardo da Vinci"),
        ("The Starry Night", "Van Gogh"),
        ("Guernica", "Picasso"),
        ("The Night Watch", "Rembrandt"),
        ("The Birth of Venus", "Botticelli"),
        ("Girl with a Pearl Earring", "Vermeer"),
        ("Las Meninas", "Velazquez"),
        ("The Persistence of Memory", "Dali"),
    ],
};

pub(super) const MUSIC: Relation = Relation {
    name: "music",
    wordings: &[
        "Who composed {s}?",
        "Which composer wrote {s}?",
        "By which composer is {s}?",
        "Name the composer of {s}.",
        "Who is the composer of {s}?",
    ],
    recall: "{s} was composed by {a}.",
    rows: &[
        ("The Four Seasons", "Vivaldi"),
        ("The Magic Flute", "Mozart"),
        ("Swan Lake", "Tchaikovsky"),
        ("The Nutcracker", "Tchaikovsky"),
        ("Carmen", "Bizet"),
        ("Aida", "Verdi"),
        ("The Rite of Spring", "Stravinsky"),
        ("Tosca", "Puccini"),
    ],
};
