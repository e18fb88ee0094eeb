use super::*;

/// What every set must agree on, bit by bit.
struct Everything<'a> {
    bytes: &'a [u8; 32],
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
}

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<u32> {
        let (a, b) = (l.load(self.a), l.load(self.b));
        let mut half = [0u8; LANES];
        half.copy_from_slice(&self.bytes[..LANES]);
        let [low, high] = l.nibbles(&half, a);
        let values = [
            l.mul(a, b),
            l.mul_add(a, b, l.splat(0.3)),
            l.bf16(self.bytes),
            l.f16(self.bytes),
            l.e4m3(&half),
            l.i8(&half),
            low,
            high,
        ];
        let mut bits: Vec<u32> = values
            .into_iter()
            .flat_map(|v| l.store(v))
            // One NaN is as good as another.
            .map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() })
            .collect();
        bits.push(l.sum(l.mul(a, b)).to_bits());
        bits
    }
}

/// Breaks with: a shift off by one, signs lost, halves exchanged, a table's upper part taken for
/// its lower one, sums in another order.
#[test]
fn all_sets_give_the_same_bits() {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as u32
    };
    for round in 0..20_000u32 {
        let bytes: [u8; 32] = std::array::from_fn(|i| match round {
            // every 16-bit pattern and every byte, then any
            0..4096 => ((round * 16 + i as u32 / 2) >> (8 * (i % 2))) as u8,
            _ => next() as u8,
        });
        let a: [f32; LANES] = std::array::from_fn(|_| next() as f32 / 1e9 - 1.0);
        let b: [f32; LANES] = std::array::from_fn(|_| next() as f32 / 1e9 - 1.0);
        let run = |set: InstructionSet| {
            set.run(Everything {
                bytes: &bytes,
                a: &a,
                b: &b,
            })
        };
        let want = run(InstructionSet::Portable);
        for set in InstructionSet::available() {
            assert_eq!(run(set), want, "{set:?} with {bytes:?}");
        }
    }
}

/// Breaks with: lanes added up in another order than one by one, or a sum in another's place.
#[test]
fn sixteen_sums_are_those_of_one_at_a_time() {
    struct Sums([[f32; LANES]; LANES]);
    impl Kernel for Sums {
        type Output = [[u32; LANES]; 2];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let mut values = [l.splat(0.0); LANES];
            let mut one_by_one = [0; LANES];
            for (i, lanes) in self.0.iter().enumerate() {
                values[i] = l.load(lanes);
                one_by_one[i] = l.sum(values[i]).to_bits();
            }
            [l.sums(values).map(f32::to_bits), one_by_one]
        }
    }
    // Of all sizes, so that the order shows in the last digit.
    let value = |i: usize| (i as f32 * 0.37 - 40.1) * 10f32.powi((i * 7 % 11) as i32 - 5);
    let values = std::array::from_fn(|i| std::array::from_fn(|j| value(LANES * i + j)));
    for set in InstructionSet::available() {
        let [together, one_by_one] = set.run(Sums(values));
        assert_eq!(together, one_by_one, "{set:?}");
    }
}

/// Breaks with: a product that leaves 16 bits, codes read with a sign or activations without one, a
/// lane that gets another's word.
#[test]
fn whole_numbers_are_summed_exactly_on_every_set() {
    struct Dot<'a>(&'a [u8; WORDS], [i8; 4]);
    impl Kernel for Dot<'_> {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let sum = l.dot(l.whole(-1000), self.0, self.1);
            l.store(l.to_float(l.dot(sum, self.0, self.1)))
        }
    }
    let ramp: [u8; WORDS] = std::array::from_fn(|i| (i * 37 % 256) as u8);
    let x = [[127, -127, 127, -127], [-128; 4], [127; 4], [1, -2, 3, 0]];
    for codes in [ramp, [255; WORDS], [0; WORDS]] {
        for x in x {
            let want: [f32; LANES] = std::array::from_fn(|lane| {
                let word = codes[4 * lane..].iter().zip(x);
                let products = word.map(|(code, x)| i32::from(*code) * i32::from(x));
                (2 * products.sum::<i32>() - 1000) as f32
            });
            for set in InstructionSet::available() {
                assert_eq!(set.run(Dot(&codes, x)), want, "{set:?} {x:?}");
            }
        }
    }
}

/// Breaks with: a shuffle that puts a word in another's place.
#[test]
fn words_are_turned_on_every_set() {
    struct Turn([[u8; WORDS]; LANES]);
    impl Kernel for Turn {
        type Output = [[u8; WORDS]; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            l.turned(&self.0)
        }
    }
    let at = |row: usize, column: usize| (16 * row + column) as u8;
    let rows = std::array::from_fn(|r| std::array::from_fn(|i| at(r, i / 4) ^ (i % 4) as u8));
    for set in InstructionSet::available() {
        let turned = set.run(Turn(rows));
        for (column, turned) in turned.iter().enumerate() {
            for (i, byte) in turned.iter().enumerate() {
                assert_eq!(*byte, at(i / 4, column) ^ (i % 4) as u8, "{set:?}");
            }
        }
    }
}

/// Breaks with: a bias that is not e4m3's, or numbers below the smallest normal one lost.
#[test]
fn e4m3_codes_have_their_values() {
    struct Codes([u8; LANES]);
    impl Kernel for Codes {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            l.store(l.mul(l.e4m3(&self.0), l.splat(E4M3_UNBIAS)))
        }
    }
    for first in (0..=255u8).step_by(LANES) {
        let codes: [u8; LANES] = std::array::from_fn(|i| first + i as u8);
        for set in InstructionSet::available() {
            for (value, code) in set.run(Codes(codes)).iter().zip(codes) {
                let want = dsv3_weights::fp8::E4M3_TO_F32[usize::from(code)];
                if !want.is_nan() {
                    assert_eq!(value.to_bits(), want.to_bits(), "{code:#x}, {set:?}");
                }
            }
        }
    }
}
