use super::*;

/// What every set must agree on, bit by bit.
struct Everything<'a> {
    bytes: &'a [u8; 32],
    a: &'a [f32; LANES],
    b: &'a [f32; LANES],
    /// A number of half precision, as those of int8 and int4 are.
    scale: f32,
}

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<u32> {
        let (a, b) = (l.load(self.a), l.load(self.b));
        let mut half = [0u8; LANES];
        half.copy_from_slice(&self.bytes[..LANES]);
        let [low, high] = l.int4(&half, l.int4_scale(self.scale));
        let values = [
            l.mul(a, b),
            l.mul_add(a, b, l.splat(0.3)),
            l.bf16(self.bytes),
            l.f16(self.bytes),
            l.e4m3(&half),
            l.i8(&half, l.i8_scale(self.scale)),
            low,
            high,
        ];
        let mut bits: Vec<u32> = values
            .into_iter()
            .flat_map(|v| l.store(v))
            // One NaN is as good as another.
            .map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() })
            // One zero is as good as another: no sum can tell.
            .map(|bits| if bits == 1 << 31 { 0 } else { bits })
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
        let scale = half::f16::from_bits((next() % 0x7c00) as u16).to_f32();
        let scale = if round % 2 == 0 { scale } else { -scale };
        let run = |set: InstructionSet| {
            set.run(Everything {
                bytes: &bytes,
                a: &a,
                b: &b,
                scale,
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
        const BYTES: bool = true;
        /// The sums, and whether codes have signs.
        type Output = ([f32; LANES], bool);
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let sum = l.dot(l.whole(-1000), self.0, self.1);
            let sum = l.store(l.to_float(l.dot(sum, self.0, self.1)));
            (sum, L::INT8_ZERO == 0)
        }
    }
    let ramp: [u8; WORDS] = std::array::from_fn(|i| (i * 37 % 256) as u8);
    let x = [[127, -127, 127, -127], [-127; 4], [127; 4], [1, -2, 3, 0]];
    for codes in [ramp, [255; WORDS], [128; WORDS], [127; WORDS], [0; WORDS]] {
        for x in x {
            for set in InstructionSet::available() {
                let (sums, is_signed) = set.run(Dot(&codes, x));
                let value = |code: u8| match is_signed {
                    true => i32::from(code as i8),
                    false => i32::from(code),
                };
                for (lane, sum) in sums.into_iter().enumerate() {
                    let word = codes[4 * lane..].iter().zip(x);
                    let products = word.map(|(code, x)| value(*code) * i32::from(x));
                    let want = (2 * products.sum::<i32>() - 1000) as f32;
                    assert_eq!(sum, want, "{set:?} {x:?} lane {lane}");
                }
            }
        }
    }
}

/// Breaks with: sums of pairs that leave 16 bits, a word that is met by another's activations, a
/// token or a set of rows that gets another's sum.
#[test]
fn eight_words_of_four_bits_are_as_one_after_the_other() {
    struct Eight<'a>(&'a [[[u8; WORDS]; 2]; 8], [&'a [[i8; 4]; 8]; 2]);
    impl Kernel for Eight<'_> {
        const BYTES: bool = true;
        type Output = [[[[f32; LANES]; 2]; 2]; 2];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let mut one_by_one = [[l.whole(-1000), l.whole(7)]; 2];
            let mut eight = one_by_one;
            for (sums, x) in one_by_one.iter_mut().zip(self.1) {
                for (codes, x) in self.0.iter().zip(x) {
                    for (sum, codes) in sums.iter_mut().zip(codes) {
                        *sum = l.dot(*sum, codes, *x);
                    }
                }
            }
            l.dot_eight(&mut eight, self.0, &self.1);
            [one_by_one, eight]
                .map(|sums| sums.map(|sums| sums.map(|sum| l.store(l.to_float(sum)))))
        }
    }
    let code = |w: usize, half: usize, i: usize| ((w * 64 + half * 5 + i) * 7 % 16) as u8;
    let ramp: [[[u8; WORDS]; 2]; 8] = std::array::from_fn(|w| {
        std::array::from_fn(|half| std::array::from_fn(|i| code(w, half, i)))
    });
    let steps = std::array::from_fn(|w| std::array::from_fn(|i| ((w * 4 + i) * 8) as u8 as i8 | 1));
    for codes in [ramp, [[[15; WORDS]; 2]; 8]] {
        for x in [[steps, [[1; 4]; 8]], [[[127; 4]; 8], [[-127; 4]; 8]]] {
            for set in InstructionSet::available() {
                let [one_by_one, eight] = set.run(Eight(&codes, [&x[0], &x[1]]));
                assert_eq!(eight, one_by_one, "{set:?}");
            }
        }
    }
}

/// Breaks with: a pair of products that leaves 16 bits, the sign of -128 lost, halves of bytes
/// exchanged, a row or a token that gets another's sum, a last group taken for a whole one, groups
/// that stand beside each other in a register exchanged, or one of them left out.
#[test]
fn rows_of_whole_numbers_are_summed_exactly_on_every_set() {
    const UNITS: usize = 7;
    struct Rows<'a> {
        int8: &'a [[[u8; 2 * LANES]; UNITS]; LANES],
        int4: &'a [[[u8; LANES]; UNITS]; LANES],
        x: &'a [[[i8; 2 * LANES]; UNITS]; 2],
        per_group: usize,
    }
    /// `[int8 and int4, tokens, rows]`
    type Sums = [[[f32; LANES]; 2]; 2];
    impl Kernel for Rows<'_> {
        const BYTES: bool = true;
        type Output = Sums;
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Sums {
            let int8 = self.int8.as_flattened().as_flattened();
            let int4 = self.int4.as_flattened().as_flattened();
            let int8 = &Sixteen::new(int8, UNITS * 2 * LANES, LANES);
            let int4 = &Sixteen::new(int4, UNITS * LANES, LANES);
            // What codes of eight bits without signs lie above those with.
            let of_group =
                |x: &[[i8; 32]]| -> i32 { x.iter().flatten().map(|x| i32::from(*x)).sum() };
            let of_token = |x: &[[i8; 32]; UNITS]| -> Vec<i32> {
                let groups = x.chunks(self.per_group);
                groups.map(|x| -128 * of_group(x)).collect()
            };
            let zeros = [of_token(&self.x[0]), of_token(&self.x[1])];
            let token = |t: usize| WholeToken {
                x: &self.x[t],
                starts: &STARTS[t],
                scales: &X_SCALES[..UNITS.div_ceil(self.per_group)],
            };
            let tokens = [token(0), token(1)];
            let mut above = tokens;
            for (token, zeros) in above.iter_mut().zip(&zeros) {
                token.starts = zeros;
            }
            let scales = &SCALES.map(|scale| [scale; LANES]);
            let near = Onward::Near(64);
            let mut sums = [[l.splat(0.5); 2]; 2];
            let [of_int8, of_int4] = &mut sums;
            let rows = WholeRows::new(int8, 0, scales, above, self.per_group, near);
            l.int8_rows(&rows, of_int8);
            let rows = WholeRows::new(int4, 0, scales, tokens, self.per_group, near);
            l.int4_rows(&rows, of_int4);
            sums.map(|of| of.map(|sum| l.store(sum)))
        }
    }
    const X_SCALES: [f32; UNITS] = [1.0, 2.0, 1.0, 2.0, 0.5, 1.0, 2.0];
    const SCALES: [f32; UNITS] = [1.0, 0.25, 0.5, 0.25, 2.0, 0.5, 0.5];
    const STARTS: [[i32; UNITS]; 2] = [[77, -5, 1000, 9, 0, -1, 12], [0, -77, 5, 1, -2, 30, -400]];
    let any = |lane: usize, unit: usize, i: usize| (lane * 89 + unit * 41 + i * 37) as u8;
    let codes: [&dyn Fn(usize, usize, usize) -> u8; 4] =
        [&any, &|_, _, _| 0x80, &|_, _, _| 0xff, &|_, _, _| 0x7f];
    let ramp = std::array::from_fn(|i| (i as i32 * 8 - 127) as i8);
    for codes in codes {
        let some = [ramp, [1; 32], [-3; 32], ramp, [2; 32], [-1; 32], ramp];
        for x in [some, [[127; 32]; UNITS], [[-127; 32]; UNITS]] {
            let mut turned = x;
            turned.rotate_left(1);
            let x = [x, turned];
            let int8 = std::array::from_fn(|lane| {
                std::array::from_fn(|unit| std::array::from_fn(|i| codes(lane, unit, i)))
            });
            let int4 = std::array::from_fn(|lane| {
                std::array::from_fn(|unit| std::array::from_fn(|i| codes(lane, unit, i)))
            });
            for per_group in 1..=UNITS {
                // All of it is small enough for f32 to be exact, whatever the order.
                let sum = |which: usize, t: usize, lane: usize| {
                    let mut sum = 0.5;
                    for (group, x) in x[t].chunks(per_group).enumerate() {
                        let mut whole = if which == 0 { 0 } else { STARTS[t][group] };
                        for (unit, x) in x.iter().enumerate() {
                            let unit = group * per_group + unit;
                            for (i, x) in x.iter().enumerate() {
                                let code = match which {
                                    0 => i32::from(codes(lane, unit, i) as i8),
                                    _ => {
                                        let byte = codes(lane, unit, i % LANES);
                                        i32::from(byte >> (4 * (i / LANES)) & 15)
                                    }
                                };
                                whole += code * i32::from(*x);
                            }
                        }
                        sum += whole as f32 * (SCALES[group] * X_SCALES[group]);
                    }
                    sum
                };
                let want: Sums = std::array::from_fn(|which| {
                    std::array::from_fn(|t| std::array::from_fn(|lane| sum(which, t, lane)))
                });
                for set in InstructionSet::available() {
                    let got = set.run(Rows {
                        int8: &int8,
                        int4: &int4,
                        x: &x,
                        per_group,
                    });
                    assert_eq!(got, want, "{set:?}, groups of {per_group}");
                }
            }
        }
    }
}

/// Breaks with: rows that are shorter than what meets them, which a kernel would read behind.
#[test]
#[should_panic(expected = "rows are too short")]
fn a_row_that_is_too_short_is_refused() {
    let bytes = [0; 2 * LANES * LANES - 1];
    let rows = &Sixteen::new(&bytes, 2 * LANES, LANES);
    let token = WholeToken {
        x: &[[0; 2 * LANES]; 2],
        starts: &[0; 2],
        scales: &[0.0; 2],
    };
    WholeRows::<LANES, 1>::new(rows, 0, &[[0.0; LANES]; 2], [token], 1, Onward::Nothing);
}

/// Breaks with: a lane that finds another's row, rows that are missing and not the last one, bytes
/// behind the end that are read all the same.
#[test]
fn sixteen_rows_are_found_and_fewer_filled_up() {
    let bytes: Vec<u8> = (0..35).collect();
    let rows = Sixteen::new(&bytes, 10, 3);
    for lane in 0..LANES {
        let first = 10 * lane.min(2) as u8;
        assert_eq!(rows.row(lane)[0], first);
        assert_eq!(rows.padded::<2>(lane, 3), [first + 3, first + 4]);
    }
    assert_eq!(rows.padded::<4>(2, 13), [33, 34, 0, 0]);
    assert_eq!(rows.padded::<4>(2, 99), [0; 4]);
    assert!(rows.have(15) && !rows.have(16));
}

/// Breaks with: halves in another's place, on the way into the registers or out of them, or any read
/// behind the last row's end.
#[test]
fn halves_are_turned_on_every_set() {
    struct Turn<'a>(&'a [u8], usize);
    impl Kernel for Turn<'_> {
        type Output = [[f32; LANES]; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let mut to = [[0.0; LANES]; LANES];
            l.turned_halves(&Sixteen::new(self.0, APART, LANES), self.1, &mut to);
            to
        }
    }
    const APART: usize = 40;
    let bytes: Vec<u8> = (0..(LANES * APART) as u16 / 2)
        .flat_map(|i| half::f16::from_f32(f32::from(i)).to_le_bytes())
        .collect();
    for from in [0, 6, 8, 30] {
        for set in InstructionSet::available() {
            let turned = set.run(Turn(&bytes, from));
            for (column, turned) in turned.iter().enumerate() {
                for (lane, value) in turned.iter().enumerate() {
                    let at = (lane * APART + from) / 2 + column;
                    let there = at < LANES * APART / 2;
                    let want = if there { at as f32 } else { 0.0 };
                    assert_eq!(*value, want, "{set:?}: column {column}, lane {lane}");
                }
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
