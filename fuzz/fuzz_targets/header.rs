//! A safetensors header: whatever is accepted must lie in the file, disjoint and complete.
#![no_main]

use dsv3_weights::Header;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As it stands, and as the JSON behind a length that fits, so that mutation reaches the JSON.
    let _ = Header::parse(bytes, bytes.len() as u64);
    let mut framed = (bytes.len() as u64).to_le_bytes().to_vec();
    framed.extend(bytes);
    let data = 64;
    if let Ok(header) = Header::parse(&framed, framed.len() as u64 + data) {
        let mut owned = 0;
        for t in &header.tensors {
            assert!(t.begin <= t.end && t.end <= data);
            let elements: usize = t.shape.iter().product();
            assert_eq!((elements * t.dtype.size_bytes()) as u64, t.byte_len());
            owned += t.byte_len();
        }
        assert_eq!(owned, data);
    }
});
