//! Days after a date, days of the week, lengths of months.

use std::fmt::Write;

use crate::columns;
use crate::comparing;
use crate::draw::Draw;
use crate::error::TasksError;
use crate::example::{Example, Kind, Mode};
use crate::names::{DAYS, MONTHS, fill};
use crate::question::{Question, plain_system};

const AFTER: [&str; 6] = [
    "What date is {n} days after {date}?",
    "What is the date {n} days after {date}?",
    "Today is {date}. What is the date in {n} days?",
    "Which day comes {n} days after {date}?",
    "A trip begins on {date} and ends {n} days later. When does it end?",
    "Add {n} days to {date}.",
];
const BEFORE: [&str; 6] = [
    "What date is {n} days before {date}?",
    "What is the date {n} days before {date}?",
    "Today is {date}. What was the date {n} days ago?",
    "Which day comes {n} days before {date}?",
    "A trip ended on {date} after {n} days. When did it begin?",
    "Take {n} days from {date}.",
];
const WEEKDAY_AFTER: [&str; 5] = [
    "Today is {day}. What day of the week is it in {n} days?",
    "If today is {day}, what day is it {n} days from now?",
    "Which day of the week is {n} days after a {day}?",
    "It is {day}. What day will it be in {n} days?",
    "What day of the week comes {n} days after {day}?",
];
const WEEKDAY_BEFORE: [&str; 5] = [
    "Today is {day}. What day of the week was it {n} days ago?",
    "If today is {day}, what day was it {n} days ago?",
    "Which day of the week is {n} days before a {day}?",
    "It is {day}. What day was it {n} days earlier?",
    "What day of the week comes {n} days before {day}?",
];
const BETWEEN: [&str; 5] = [
    "How many days are there from {date} to {other}?",
    "How many days is it from {date} to {other}?",
    "Today is {date}. In how many days is it {other}?",
    "How many days after {date} is {other}?",
    "It is {date}. How many days are left until {other}?",
];
const TOGETHER: [&str; 4] = [
    "How many days do {months} have together?",
    "How many days do {months} have in all?",
    "How many days are there in {months} together?",
    "Add up the days of {months}.",
];

/// No month is shorter, so one month's end at most is between two dates.
const LONGEST: i64 = 28;

/// A task of this kind.
pub(crate) fn example(mode: Mode, draw: &mut Draw) -> Result<Example, TasksError> {
    let mut question = match draw.below(10) {
        0..=2 => days_after(draw),
        3..=4 => days_before(draw),
        5..=6 => weekday(draw),
        7..=8 => between(draw),
        _ => together(draw),
    };
    question.system = plain_system(draw);
    question.into_example(Kind::Dates, mode)
}

/// A day of some year. The year is only written where the answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Date {
    /// From 0.
    month: usize,
    /// From 1.
    day: i64,
}

impl Date {
    fn draw(draw: &mut Draw) -> Self {
        let month = draw.below(MONTHS.len());
        Date {
            month,
            day: draw.between(1, days_in(month, false)),
        }
    }

    fn text(self, year: Option<i64>) -> String {
        match year {
            Some(year) => format!("{} {}, {year}", month_name(self.month), self.day),
            None => format!("{} {}", month_name(self.month), self.day),
        }
    }
}

fn month_name(month: usize) -> &'static str {
    MONTHS
        .get(month % MONTHS.len())
        .copied()
        .unwrap_or_default()
}

fn days_in(month: usize, leap: bool) -> i64 {
    match month % MONTHS.len() {
        1 => 28 + i64::from(leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    // The years drawn are all near 2025: no century among them.
    year % 4 == 0
}

/// A year and what reasoning says of it, where leap years and others differ.
fn year(draw: &mut Draw, needed: bool) -> (Option<i64>, String) {
    let year = draw.between(2019, 2032);
    if !needed {
        return (None, String::new());
    }
    let said = if is_leap(year) { "a" } else { "no" };
    (Some(year), format!("{year} is {said} leap year. "))
}

fn days_after(draw: &mut Draw) -> Question {
    let (date, n) = (Date::draw(draw), draw.between(2, LONGEST));
    let wording = draw.pick(&AFTER);
    let needed = after(date, n, false).0 != after(date, n, true).0;
    let (year, said) = year(draw, needed);
    let (end, reasoning) = after(date, n, year.is_some_and(is_leap));
    moved("after", wording, date, n, year, end, said + &reasoning)
}

fn days_before(draw: &mut Draw) -> Question {
    let (date, n) = (Date::draw(draw), draw.between(2, LONGEST));
    let wording = draw.pick(&BEFORE);
    let needed = before(date, n, false).0 != before(date, n, true).0;
    let (year, said) = year(draw, needed);
    let (end, reasoning) = before(date, n, year.is_some_and(is_leap));
    moved("before", wording, date, n, year, end, said + &reasoning)
}

fn moved(
    name: &str,
    wording: &str,
    date: Date,
    n: i64,
    year: Option<i64>,
    end: Date,
    reasoning: String,
) -> Question {
    let (start, answer) = (date.text(year), end.text(year));
    Question {
        id: format!("dates/{name}/{start}/{n}"),
        text: fill(wording, &[("n", &n.to_string()), ("date", &start)]),
        reasoning: format!("{reasoning} {answer}"),
        answer,
        ..Question::default()
    }
}

/// The date up to [`LONGEST`] days later, and how it is found: where that is past the month's end,
/// its length is taken off.
fn after(date: Date, n: i64, leap: bool) -> (Date, String) {
    let Date { mut month, mut day } = date;
    let mut text = columns::add(day, n);
    day += n;
    let length = days_in(month, leap);
    let name = month_name(month);
    let _ = write!(text, ". {name} has {length}, {}", exceeds(day, length));
    if day > length {
        let _ = write!(text, " {}.", columns::subtract(day, length));
        day -= length;
        month = (month + 1) % MONTHS.len();
    }
    (Date { month, day }, text)
}

/// The date up to [`LONGEST`] days earlier: where there are not days enough, the month before is
/// added.
fn before(date: Date, n: i64, leap: bool) -> (Date, String) {
    let Date { mut month, mut day } = date;
    let mut text = exceeds(day, n);
    if day <= n {
        month = (month + MONTHS.len() - 1) % MONTHS.len();
        let length = days_in(month, leap);
        let name = month_name(month);
        let sum = columns::add(day, length);
        let _ = write!(text, " {name} has {length}, {sum}.");
        day += length;
    }
    let _ = write!(text, " {}.", columns::subtract(day, n));
    day -= n;
    (Date { month, day }, text)
}

/// Whether one number of up to two digits is larger than another, digit by digit.
fn exceeds(a: i64, b: i64) -> String {
    let (x, y) = (format!("{a:02}"), format!("{b:02}"));
    let mut text = format!("{x}>{y}?");
    let more = comparing::compare(&x, &y, &mut text).is_gt();
    text + if more { " yes." } else { " no." }
}

fn weekday(draw: &mut Draw) -> Question {
    let (today, n) = (draw.below(7), draw.between(2, 99));
    let back = draw.one_in(3);
    let wording = draw.pick(if back {
        &WEEKDAY_BEFORE
    } else {
        &WEEKDAY_AFTER
    });
    let (reasoning, answer) = weekday_steps(today, n, back);
    let day = DAYS.get(today).copied().unwrap_or_default();
    Question {
        id: format!("dates/weekday/{day}/{}{n}", if back { '-' } else { '+' }),
        text: fill(wording, &[("day", day), ("n", &n.to_string())]),
        reasoning,
        answer: answer.to_owned(),
        ..Question::default()
    }
}

/// The day of the week some days after or before one (0 is Monday), and how it is found: whole
/// weeks are taken off one by one, the rest is walked.
pub(crate) fn weekday_steps(today: usize, n: i64, back: bool) -> (String, &'static str) {
    let name = |steps: usize| {
        let at = if back {
            today + 7 - steps
        } else {
            today + steps
        };
        DAYS.get(at % 7).copied().unwrap_or_default()
    };
    let rest = n % 7;
    let mut reasoning = n.to_string();
    for left in (rest..n).rev().step_by(7).map(|above| above - 6) {
        let _ = write!(reasoning, " {left}");
    }
    reasoning.push('.');
    for steps in 0..=rest {
        let _ = write!(reasoning, " {} {steps},", name(steps as usize));
    }
    reasoning.pop();
    let answer = name(rest as usize);
    (format!("{reasoning}. {answer}"), answer)
}

fn between(draw: &mut Draw) -> Question {
    let mut first = Date::draw(draw);
    // From a February into March the year would matter.
    let same = first.month == 1 || draw.one_in(3);
    let length = days_in(first.month, false);
    let (last, n, reasoning) = if same {
        first.day = draw.between(1, length - 1);
        let day = draw.between(first.day + 1, length);
        let n = day - first.day;
        let last = Date { day, ..first };
        (last, n, columns::subtract(day, first.day) + ".")
    } else {
        let month = (first.month + 1) % MONTHS.len();
        let day = draw.between(1, days_in(month, false));
        let rest = length - first.day;
        let name = month_name(first.month);
        let reasoning = format!(
            "{name} has {length}, {}. {}.",
            columns::subtract(length, first.day),
            columns::add(rest, day)
        );
        (Date { month, day }, rest + day, reasoning)
    };
    let (date, other) = (first.text(None), last.text(None));
    Question {
        id: format!("dates/between/{date}/{other}"),
        text: fill(draw.pick(&BETWEEN), &[("date", &date), ("other", &other)]),
        reasoning: format!("{reasoning} {n}"),
        answer: n.to_string(),
        ..Question::default()
    }
}

fn together(draw: &mut Draw) -> Question {
    let first = draw.below(12);
    let second = (first + 1 + draw.below(11)) % 12;
    let wording = draw.pick(&TOGETHER);
    let (year, said) = year(draw, first == 1 || second == 1);
    let leap = year.is_some_and(is_leap);
    let (a, b) = (days_in(first, leap), days_in(second, leap));
    let (first_name, second_name) = (month_name(first), month_name(second));
    let of = year.map(|year| format!(" {year}")).unwrap_or_default();
    let months = format!("{first_name} and {second_name}{of}");
    let (low, high) = (first.min(second), first.max(second));
    Question {
        id: format!(
            "dates/together/{}+{}{of}",
            month_name(low),
            month_name(high)
        ),
        text: fill(wording, &[("months", &months)]),
        reasoning: format!(
            "{said}{first_name} has {a}, {second_name} has {b}. {}. {}",
            columns::add(a, b),
            a + b
        ),
        answer: (a + b).to_string(),
        ..Question::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{asked, equations, numbers, sample, thought, wanted};

    /// Days since the beginning of 2019, found by counting through the years one by one.
    fn count(year: i64, month: usize, day: i64) -> i64 {
        let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let lengths = |year| {
            [
                31,
                28 + i64::from(leap(year)),
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ]
        };
        let years: i64 = (2015..year).map(|y| lengths(y).iter().sum::<i64>()).sum();
        years + lengths(year)[..month].iter().sum::<i64>() + day
    }

    /// Month and day of every date in a text, and its year where it has one.
    fn dates(text: &str) -> Vec<(usize, i64, Option<i64>)> {
        let mut found = Vec::new();
        let words: Vec<&str> = text
            .split([' ', ',', '.', '?'])
            .filter(|w| !w.is_empty())
            .collect();
        for (at, word) in words.iter().enumerate() {
            let Some(month) = MONTHS.iter().position(|month| month == word) else {
                continue;
            };
            let number = |at: usize| words.get(at).and_then(|word| word.parse::<i64>().ok());
            let year = number(at + 2).filter(|year| *year > 2000);
            found.push((month, number(at + 1).unwrap_or_default(), year));
        }
        found
    }

    /// Breaks with: a wrong length of a month, a year left out where it matters, a step too few,
    /// a wording that asks for the other direction.
    #[test]
    fn answers_are_right_by_counting_days() {
        for example in sample(Kind::Dates, Mode::Think, 20_000) {
            let turn = &example.turns[0];
            let (text, (reasoning, answer)) = (asked(turn), thought(turn));
            assert_eq!(wanted(turn), answer);
            if !example.id.starts_with("dates/weekday/") {
                assert!(equations(&reasoning) > 0, "{reasoning}");
            }
            assert!(reasoning.ends_with(&answer), "{reasoning}");
            let back = ["before", "ago", "ended", "Take", "earlier"]
                .iter()
                .any(|w| text.contains(w));
            let sign = if back { -1 } else { 1 };
            let all = numbers(&text);
            match example.id.split('/').nth(1).unwrap() {
                "after" | "before" => {
                    let (month, day, year) = dates(&text)[0];
                    let (end_month, end_day, end_year) = dates(&answer)[0];
                    assert_eq!(year, end_year, "{text}");
                    let n = *all.iter().find(|&&n| n != day && n < 100).unwrap_or(&day);
                    // Without a year it must hold in every year.
                    for start in year.map_or(2019..=2032, |year| year..=year) {
                        let wanted = count(start, month, day) + sign * n;
                        let near = [start - 1, start, start + 1]
                            .map(|year| count(year, end_month, end_day));
                        assert!(near.contains(&wanted), "{text} {answer} in {start}");
                    }
                }
                "weekday" => {
                    let today = DAYS.iter().position(|day| text.contains(day)).unwrap() as i64;
                    let right = (today + sign * all[0]).rem_euclid(7) as usize;
                    assert_eq!(answer, DAYS[right], "{text}");
                    let steps = reasoning.split('.').next().unwrap();
                    let left = numbers(steps);
                    assert_eq!(left[0], all[0], "{text}");
                    assert!(left.windows(2).all(|two| two[0] - two[1] == 7), "{steps}");
                    assert!(*left.last().unwrap() < 7, "{steps}");
                }
                "between" => {
                    let (from, to) = (dates(&text)[0], dates(&text)[1]);
                    let n: i64 = answer.parse().unwrap();
                    for year in 2019..=2032 {
                        let days = count(year, to.0, to.1) - count(year, from.0, from.1);
                        let next = count(year + 1, to.0, to.1) - count(year, from.0, from.1);
                        assert!([days, next].contains(&n), "{text} {answer}");
                    }
                }
                _ => {
                    let year = all.first().copied();
                    let length = |month: usize| {
                        let year = year.unwrap_or(2023);
                        let next = if month == 11 {
                            (year + 1, 0)
                        } else {
                            (year, month + 1)
                        };
                        count(next.0, next.1, 1) - count(year, month, 1)
                    };
                    let right: i64 = dates(&text).iter().map(|date| length(date.0)).sum();
                    assert_eq!(answer, right.to_string(), "{text}");
                    assert_eq!(text.contains("February"), year.is_some(), "{text}");
                }
            }
        }
    }

    /// Breaks with: a change of the form that the committed model was trained to reason in.
    #[test]
    fn reasoning_reads_as_documented() {
        let march = Date { month: 2, day: 15 };
        assert_eq!(
            after(march, 20, false).1,
            "15+20. tens 1 ones 5, tens 2 ones 0. ones 5+0+0=05 5, tens 1+2+0=03 35. 35. \
             March has 31, 35>31? 3=3 5>1 yes. \
             35-31. tens 3 ones 5, tens 3 ones 1. ones 15-1-0=14 4, tens 13-3-0=10 04. 4."
        );
        assert_eq!(
            before(march, 8, false).1,
            "15>08? 1>0 yes. \
             15-8. tens 1 ones 5, tens 0 ones 8. ones 15-8-0=07 7, tens 11-0-1=10 07. 7."
        );
        assert_eq!(
            weekday_steps(0, 16, false).0,
            "16 9 2. Monday 0, Tuesday 1, Wednesday 2. Wednesday"
        );
        assert_eq!(weekday_steps(0, 6, true).0.split('.').next(), Some("6"));
    }
}
