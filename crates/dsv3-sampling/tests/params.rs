//! Impossible parameters can't be made, by any of the ways in which one can be given.
#![allow(clippy::unwrap_used)]

use dsv3_sampling::{
    FrequencyPenalty, LogitBias, MinP, PresencePenalty, Preset, RepetitionPenalty, SamplingError,
    SamplingParams, Seed, Temperature, TopK, TopLogprobs, TopP, TypicalP,
};
use proptest::prelude::*;

/// A type's name in JSON, and whether it takes a real and a whole number.
type RealType = (&'static str, fn(f64) -> bool, fn(i64) -> bool);

fn real_types() -> Vec<RealType> {
    vec![
        (
            "temperature",
            |x| Temperature::new(x).is_ok(),
            |i| Temperature::try_from(i).is_ok(),
        ),
        (
            "top_p",
            |x| TopP::new(x).is_ok(),
            |i| TopP::try_from(i).is_ok(),
        ),
        (
            "min_p",
            |x| MinP::new(x).is_ok(),
            |i| MinP::try_from(i).is_ok(),
        ),
        (
            "typical_p",
            |x| TypicalP::new(x).is_ok(),
            |i| TypicalP::try_from(i).is_ok(),
        ),
        (
            "repetition_penalty",
            |x| RepetitionPenalty::new(x).is_ok(),
            |i| RepetitionPenalty::try_from(i).is_ok(),
        ),
        (
            "presence_penalty",
            |x| PresencePenalty::new(x).is_ok(),
            |i| PresencePenalty::try_from(i).is_ok(),
        ),
        (
            "frequency_penalty",
            |x| FrequencyPenalty::new(x).is_ok(),
            |i| FrequencyPenalty::try_from(i).is_ok(),
        ),
    ]
}

fn reads(field: &str, value: &str) -> bool {
    serde_json::from_str::<SamplingParams>(&format!(r#"{{"{field}": {value}}}"#)).is_ok()
}

// Breaks when a number from a request that no range holds gets past its type.
#[test]
fn extreme_numbers_are_refused() {
    for (name, takes_real, takes_integer) in real_types() {
        for x in [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN,
            1e300,
        ] {
            assert!(!takes_real(x), "{name} took {x}");
        }
        for i in [i64::MIN, i64::MAX, i64::MIN + 1, i64::MAX - 1, 1000, -1000] {
            assert!(!takes_integer(i), "{name} took {i}");
            assert!(!reads(name, &i.to_string()), "{name} read {i}");
        }
        for text in ["1e400", "\"1\"", "[1]", "true", "18446744073709551615"] {
            assert!(!reads(name, text), "{name} read {text}");
        }
    }
    for i in [
        i64::MIN,
        i64::MIN + 1,
        -1,
        0,
        i64::MAX,
        i64::from(u32::MAX) + 1,
    ] {
        assert!(
            TopK::new(i).is_err() && !reads("top_k", &i.to_string()),
            "{i}"
        );
    }
    for i in [i64::MIN, -1, 21, 256, 257, i64::MAX] {
        assert!(
            TopLogprobs::new(i).is_err() && !reads("top_logprobs", &i.to_string()),
            "{i}"
        );
    }
    assert!(TopK::try_from(u64::MAX).is_err() && TopLogprobs::try_from(u64::MAX).is_err());
    assert!(!reads("top_k", "1.5") && !reads("seed", "1.5") && !reads("seed", "1e30"));
    for bias in [f64::NAN, f64::INFINITY, 100.001, -100.001, i64::MIN as f64] {
        assert!(LogitBias::new([(0, bias)]).is_err(), "{bias}");
    }
    assert!(!reads("logit_bias", r#"{"-1": 0}"#) && !reads("logit_bias", r#"{"4294967296": 0}"#));
    assert!(!reads("logit_bias", r#"{"5": 101}"#) && !reads("logit_bias", r#"{"five": 1}"#));
}

// Breaks when an end of a range falls on the wrong side.
#[test]
fn ends_of_ranges() {
    let above = |x: f64| f64::from_bits(x.to_bits() + 1);
    let tiny = f64::from_bits(1);
    let inside: [(&str, &[f64], &[f64]); 7] = [
        ("temperature", &[0.0, tiny, 2.0], &[-tiny, above(2.0)]),
        ("top_p", &[tiny, 1.0], &[0.0, -0.0, above(1.0)]),
        ("min_p", &[0.0, 1.0], &[-tiny, above(1.0)]),
        ("typical_p", &[tiny, 1.0], &[0.0, above(1.0)]),
        (
            "repetition_penalty",
            &[tiny, 10.0],
            &[0.0, -1.0, above(10.0)],
        ),
        ("presence_penalty", &[-2.0, 2.0], &[-above(2.0), above(2.0)]),
        (
            "frequency_penalty",
            &[-2.0, 2.0],
            &[-above(2.0), above(2.0)],
        ),
    ];
    for ((name, takes, _), (same, good, bad)) in real_types().into_iter().zip(inside) {
        assert_eq!(name, same);
        assert!(
            good.iter().all(|&x| takes(x)),
            "{name} refuses one of {good:?}"
        );
        assert!(
            !bad.iter().any(|&x| takes(x)),
            "{name} takes one of {bad:?}"
        );
    }
    assert_eq!(TopK::new(1).unwrap().get(), 1);
    assert_eq!(
        TopK::new(i64::from(u32::MAX)).unwrap().get(),
        u32::MAX as usize
    );
    assert_eq!(TopLogprobs::new(0).unwrap().get(), 0);
    assert_eq!(TopLogprobs::new(20).unwrap().get(), 20);
    assert_eq!(
        LogitBias::new([(3, -100.0), (1, 100.0)])
            .unwrap()
            .iter()
            .next(),
        Some((1, 100.0))
    );
}

// Breaks when a list of biases can make every step of a sequence dear.
#[test]
fn endless_logit_bias_is_refused() {
    assert!(LogitBias::new((0..1024).map(|t| (t, 1.0))).is_ok());
    assert!(LogitBias::new((0..).map(|t| (t, 1.0))).is_err());
}

// Breaks when a message stops naming the parameter, the value or the way out.
#[test]
fn messages_tell_what_where_and_how() {
    let message = Temperature::new(2.5).unwrap_err().to_string();
    assert_eq!(
        message,
        "temperature is 2.5, which is not allowed: give a number from 0 (greedy) to 2"
    );
    let message = "warm".parse::<Temperature>().unwrap_err().to_string();
    assert_eq!(
        message,
        "temperature is \"warm\", which is not a number: give a number from 0 (greedy) to 2"
    );
    let error = serde_json::from_str::<SamplingParams>(r#"{"top_k": 0}"#).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("top_k is 0, which is not allowed: give"),
        "{error}"
    );
}

// Breaks when a misspelt parameter is silently left out.
#[test]
fn unknown_fields_are_refused() {
    assert!(!reads("temprature", "0.5"));
}

// Breaks when the presets leave the published ranges or the default leaves generation_config.json.
#[test]
fn presets_and_default() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/config/generation_config.json"
    );
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let default = SamplingParams::default();
    assert_eq!(
        Some(default.temperature.get()),
        file["temperature"].as_f64()
    );
    assert_eq!(Some(default.top_p.get()), file["top_p"].as_f64());
    assert_eq!(Preset::Chat.params(), default);
    let ranges = [(0.2, 0.4), (0.5, 0.6), (0.7, 0.9), (0.6, 0.6)];
    for (preset, (low, high)) in Preset::ALL.into_iter().zip(ranges) {
        let temperature = preset.params().temperature.get();
        assert!(
            (low..=high).contains(&temperature),
            "{preset}: {temperature}"
        );
        assert_eq!(preset.to_string().parse::<Preset>().unwrap(), preset);
        let json = serde_json::to_string(&preset).unwrap();
        assert_eq!(json, format!("\"{preset}\""));
    }
    let unknown = "poetry".parse::<Preset>().unwrap_err();
    assert!(matches!(unknown, SamplingError::UnknownPreset { name } if name == "poetry"));
    assert!(SamplingParams::greedy().temperature.is_greedy());
}

// Breaks when a seed of OpenAI's API, which may be negative, is refused or two seeds fall together.
#[test]
fn every_64_bit_seed_is_read() {
    for (text, seed) in [
        ("0", 0),
        ("18446744073709551615", u64::MAX),
        ("-1", u64::MAX),
        ("-9223372036854775808", 1 << 63),
    ] {
        assert_eq!(serde_json::from_str::<Seed>(text).unwrap(), Seed(seed));
        assert_eq!(text.parse::<Seed>().unwrap(), Seed(seed));
    }
    assert!("18446744073709551616".parse::<Seed>().is_err());
}

/// Numbers with a few binary places: serde_json reads longer ones with an error in the last place.
fn numbers(from: i32, to: i32) -> impl Strategy<Value = f64> {
    (from * 64..to * 64).prop_map(|n| f64::from(n) / 64.0)
}

proptest! {
    // Breaks when a value in range is changed, or one way of giving it differs from another.
    #[test]
    fn numbers_keep_their_value(x in numbers(-3, 12), i in -5..30i64) {
        for (name, takes, _) in real_types() {
            prop_assert_eq!(takes(x), reads(name, &serde_json::to_string(&x).unwrap()), "{}", name);
        }
        if let Ok(t) = Temperature::new(x) {
            prop_assert_eq!(t.get(), x);
            prop_assert_eq!(x.to_string().parse::<Temperature>().unwrap(), t);
            let json = serde_json::to_string(&t).unwrap();
            prop_assert_eq!(serde_json::from_str::<Temperature>(&json).unwrap(), t);
        }
        prop_assert_eq!(TopK::new(i).is_ok(), i >= 1);
        prop_assert_eq!(TopLogprobs::new(i).is_ok(), (0..=20).contains(&i));
        prop_assert_eq!(TopK::new(i).is_ok(), i.to_string().parse::<TopK>().is_ok());
    }

    // Breaks when parameters do not survive being written and read (a server's log, a saved chat).
    #[test]
    fn params_survive_json(
        t in numbers(0, 2), p in numbers(0, 1).prop_map(|x| 1.0 - x), k in proptest::option::of(1..1000i64),
        bias in proptest::collection::btree_map(any::<u32>(), numbers(-100, 100), 0..5),
        seed in proptest::option::of(any::<u64>()),
    ) {
        let params = SamplingParams {
            temperature: Temperature::new(t).unwrap(),
            top_p: TopP::new(p).unwrap(),
            top_k: k.map(|k| TopK::new(k).unwrap()),
            typical_p: Some(TypicalP::new(p).unwrap()),
            logit_bias: LogitBias::new(bias).unwrap(),
            seed: seed.map(Seed),
            ..SamplingParams::default()
        };
        let json = serde_json::to_string(&params).unwrap();
        prop_assert_eq!(serde_json::from_str::<SamplingParams>(&json).unwrap(), params);
    }
}
