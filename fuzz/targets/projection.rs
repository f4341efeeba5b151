//! A projection's file with anything in it, its checksums set right: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

const HEADER: usize = 20;

fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    let _ = warehouse::is_projection(bytes.clone());
    let Some(length) = bytes.get(12..16) else { return };
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let Some(end) = HEADER.checked_add(length).filter(|end| *end <= bytes.len()) else { return };
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..16]), &bytes[HEADER..end]);
    bytes[16..HEADER].copy_from_slice(&sum.to_le_bytes());
    let _ = warehouse::is_projection(bytes);
});
