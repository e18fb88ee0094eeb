//! Families of tools that do something.

use super::family::{Family, Outcome, Values, needed, optional};

const PERSON: &[&str] = &["to", "name", "person"];
const TEXT: &[&str] = &["text", "message", "words"];
const ROOM: &[&str] = &["room", "place", "where"];
const PEOPLE: &[&str] = &["people", "persons", "count"];
const SENT: &[&str] = &["sent", "delivered", "waiting", "read"];
const SET: &[&str] = &["set", "active", "on", "saved"];
const PLAYING: &[&str] = &["playing", "next", "waiting", "paused"];
const FOODS: &[&str] = &[
    "pizza", "soup", "salad", "tea", "coffee", "bread", "cake", "pasta",
];
const SUBJECTS: &[&str] = &[
    "lunch", "dinner", "meeting", "party", "concert", "lesson", "walk",
];

/// All of them.
pub(crate) const FAMILIES: &[Family] = &[
    Family {
        key: "message",
        verbs: &["send", "write", "post"],
        nouns: &["message", "text", "note"],
        descriptions: &[
            "Sends a message to a person.",
            "Writes someone a message.",
            "Sends a short text.",
        ],
        slots: &[needed(PERSON, Values::Person), needed(TEXT, Values::Saying)],
        asks: &[
            "Send {0} the message \"{1}\".",
            "Write to {0}: \"{1}\".",
            "Tell {0} \"{1}\".",
            "I want to send \"{1}\" to {0}.",
            "Send \"{1}\" to {0}.",
        ],
        results: &["status", "state"],
        outcome: Outcome::OneOf(SENT),
        answer: "The message to {0} is {r}.",
        both: false,
    },
    Family {
        key: "mail",
        verbs: &["send", "write", "create"],
        nouns: &["mail", "email", "letter"],
        descriptions: &[
            "Sends an email.",
            "Writes an email to a person.",
            "Sends someone a letter.",
        ],
        slots: &[
            needed(PERSON, Values::Person),
            needed(&["subject", "title", "about"], Values::Title),
        ],
        asks: &[
            "Send an email to {0} about \"{1}\".",
            "Write {0} an email about \"{1}\".",
            "I need an email to {0} about \"{1}\".",
            "Email {0} about \"{1}\".",
            "Write an email about \"{1}\" to {0}.",
        ],
        results: &["status", "state"],
        outcome: Outcome::OneOf(SENT),
        answer: "The email to {0} is {r}.",
        both: false,
    },
    Family {
        key: "alarm",
        verbs: &["set", "create", "add"],
        nouns: &["alarm", "alarm_clock", "wake_up"],
        descriptions: &[
            "Sets an alarm.",
            "Wakes someone up at a time.",
            "Creates an alarm for a time of day.",
        ],
        slots: &[
            needed(&["time", "at", "when"], Values::Time),
            optional(&["day", "date"], Values::Day, " on {}"),
        ],
        asks: &[
            "Wake me up at {0}.",
            "Set an alarm for {0}.",
            "I need an alarm at {0}.",
            "Set the alarm to {0}.",
            "I want to get up at {0}.",
        ],
        results: &["status", "state"],
        outcome: Outcome::OneOf(SET),
        answer: "The alarm for {0} is {r}.",
        both: false,
    },
    Family {
        key: "timer",
        verbs: &["start", "set", "add"],
        nouns: &["timer", "countdown", "kitchen_timer"],
        descriptions: &[
            "Starts a timer.",
            "Counts down some minutes.",
            "Sets a timer for some minutes.",
        ],
        slots: &[needed(
            &["minutes", "length", "time"],
            Values::Integer(2, 90),
        )],
        asks: &[
            "Set a timer for {0} minutes.",
            "Start a timer of {0} minutes.",
            "Count down {0} minutes.",
            "I need a timer for {0} minutes.",
            "Tell me when {0} minutes are over.",
        ],
        results: &["status", "state"],
        outcome: Outcome::OneOf(SET),
        answer: "The timer for {0} minutes is {r}.",
        both: false,
    },
    Family {
        key: "music",
        verbs: &["play", "start", "add"],
        nouns: &["song", "music", "track"],
        descriptions: &[
            "Plays a song.",
            "Plays music by its title.",
            "Starts a song.",
        ],
        slots: &[
            needed(&["title", "song", "name"], Values::Title),
            optional(
                &["volume", "level"],
                Values::Integer(1, 10),
                " at volume {}",
            ),
        ],
        asks: &[
            "Play \"{0}\".",
            "Play the song \"{0}\".",
            "I want to hear \"{0}\".",
            "Start the song \"{0}\".",
            "Let me hear \"{0}\".",
        ],
        results: &["status", "state"],
        outcome: Outcome::OneOf(PLAYING),
        answer: "\"{0}\" is {r}.",
        both: false,
    },
    Family {
        key: "table",
        verbs: &["book", "reserve", "get"],
        nouns: &["table", "seats", "restaurant"],
        descriptions: &[
            "Books a table in a restaurant.",
            "Reserves seats for some people.",
            "Gets a table at a time.",
        ],
        slots: &[
            needed(PEOPLE, Values::Integer(2, 12)),
            needed(&["time", "at", "when"], Values::Time),
        ],
        asks: &[
            "Book a table for {0} people at {1}.",
            "I need a table for {0} people at {1}.",
            "Reserve a table at {1} for {0} people.",
            "We are {0} people and want a table at {1}.",
            "Get us a table for {0} people at {1}.",
        ],
        results: &["table", "number"],
        outcome: Outcome::Integer(1, 60),
        answer: "You have table {r} at {1}.",
        both: false,
    },
    Family {
        key: "light",
        verbs: &["set", "turn", "switch"],
        nouns: &["light", "lamp", "room_light"],
        descriptions: &[
            "Turns a light on or off.",
            "Switches the light in a room.",
            "Sets a lamp on or off.",
        ],
        slots: &[
            needed(ROOM, Values::Room),
            needed(&["on", "state", "light"], Values::Switch),
        ],
        asks: &[
            "Turn {1} the light in the {0}.",
            "Switch {1} the lamp in the {0}.",
            "I want the light in the {0} {1}.",
            "The light in the {0} should be {1}.",
            "Turn the {0} light {1}.",
        ],
        results: &["watts", "power"],
        outcome: Outcome::Integer(0, 90),
        answer: "The {0} light is {1} and takes {r} watts.",
        both: false,
    },
    Family {
        key: "heating",
        verbs: &["set", "change", "turn"],
        nouns: &["heating", "heat", "room_temperature"],
        descriptions: &[
            "Sets how warm a room is.",
            "Changes the heating of a room.",
            "Sets the degrees of a room.",
        ],
        slots: &[
            needed(ROOM, Values::Room),
            needed(
                &["degrees", "temperature", "value"],
                Values::Integer(14, 26),
            ),
        ],
        asks: &[
            "Set the heating in the {0} to {1} degrees.",
            "I want {1} degrees in the {0}.",
            "Make the {0} {1} degrees warm.",
            "Change the {0} to {1} degrees.",
            "The {0} should have {1} degrees.",
        ],
        results: &["now", "degrees"],
        outcome: Outcome::Integer(5, 30),
        answer: "The {0} is at {r} degrees now and goes to {1}.",
        both: false,
    },
    Family {
        key: "event",
        verbs: &["create", "add", "plan"],
        nouns: &["event", "date", "appointment"],
        descriptions: &[
            "Adds an event to the calendar.",
            "Creates an event on a day.",
            "Plans something for a day.",
        ],
        slots: &[
            needed(&["title", "event", "name"], Values::Enum(SUBJECTS)),
            needed(&["day", "date"], Values::Day),
            optional(&["time", "at"], Values::Time, " at {}"),
        ],
        asks: &[
            "Plan a {0} on {1}.",
            "Add a {0} on {1}.",
            "I have a {0} on {1}.",
            "Put a {0} in my calendar for {1}.",
            "Create an event: {0} on {1}.",
        ],
        results: &["number", "id"],
        outcome: Outcome::Integer(100, 999),
        answer: "The {0} on {1} has the number {r}.",
        both: false,
    },
    Family {
        key: "list",
        verbs: &["add", "save", "create"],
        nouns: &["task", "reminder", "list_item"],
        descriptions: &[
            "Adds something to the list.",
            "Saves a task.",
            "Puts a text on the list.",
        ],
        slots: &[needed(&["text", "task", "item"], Values::Saying)],
        asks: &[
            "Add \"{0}\" to my list.",
            "Put \"{0}\" on the list.",
            "Save the task \"{0}\".",
            "Remind me: \"{0}\".",
            "I need \"{0}\" on my list.",
        ],
        results: &["number", "position"],
        outcome: Outcome::Integer(1, 40),
        answer: "It is number {r} on your list.",
        both: false,
    },
    Family {
        key: "food",
        verbs: &["order", "buy", "get"],
        nouns: &["food", "meals", "drinks"],
        descriptions: &[
            "Orders food.",
            "Buys something to eat.",
            "Orders a meal or a drink.",
        ],
        slots: &[
            needed(&["item", "food", "name"], Values::Word(FOODS)),
            needed(&["count", "number", "quantity"], Values::Integer(2, 20)),
        ],
        asks: &[
            "Order {0} for {1} people.",
            "I want {1} times {0}.",
            "Get us {0}, {1} times.",
            "Buy {0} for {1} people.",
            "We need {1} times {0}.",
        ],
        results: &["price", "total", "cost"],
        outcome: Outcome::Amount,
        answer: "That is {r} euros for the {0}.",
        both: false,
    },
    Family {
        key: "taxi",
        verbs: &["call", "order", "book"],
        nouns: &["taxi", "cab", "ride"],
        descriptions: &[
            "Calls a taxi.",
            "Orders a ride to a place.",
            "Books a taxi for some people.",
        ],
        slots: &[
            needed(&["to", "target", "place"], Values::Place),
            optional(PEOPLE, Values::Integer(2, 6), " for {} people"),
        ],
        asks: &[
            "Call a taxi to {0}.",
            "I need a taxi to {0}.",
            "Order a ride to {0}.",
            "Get me a taxi to {0}.",
            "Book a taxi to {0}.",
        ],
        results: &["minutes", "wait"],
        outcome: Outcome::Integer(2, 45),
        answer: "The taxi to {0} comes in {r} minutes.",
        both: false,
    },
    Family {
        key: "number",
        verbs: &["pick", "draw", "create"],
        nouns: &["number", "random_number", "dice"],
        descriptions: &[
            "Picks a random number.",
            "Draws a number between two others.",
            "Gives any number in a range.",
        ],
        slots: &[
            needed(&["low", "start", "from"], Values::Integer(1, 500)),
            needed(&["high", "end", "to"], Values::Integer(1, 500)),
        ],
        asks: &[
            "Pick a number between {0} and {1}.",
            "Give me any number from {0} to {1}.",
            "Draw a number from {0} to {1}.",
            "I need a random number between {0} and {1}.",
            "Choose a number between {0} and {1}.",
        ],
        results: &["number", "value", "result"],
        outcome: Outcome::Within,
        answer: "The number is {r}.",
        both: false,
    },
    Family {
        key: "home",
        verbs: &["find", "show", "lookup"],
        nouns: &["address", "home", "home_town"],
        descriptions: &[
            "Finds where a person lives.",
            "Shows the home of someone.",
            "Looks up the town of a person.",
        ],
        slots: &[needed(&["name", "person", "who"], Values::Person)],
        asks: &[
            "Where does {0} live?",
            "Find the home of {0}.",
            "In which town does {0} live?",
            "Tell me where {0} lives.",
            "I want to know where {0} lives.",
        ],
        results: &["town", "place"],
        outcome: Outcome::Town,
        answer: "{0} lives in {r}.",
        both: true,
    },
];
