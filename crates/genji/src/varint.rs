//! LEB128 base-128 integers, and a cursor that takes bytes off the front of a slice.

use crate::Error;

/// Appends `value` in 1 to 10 bytes.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes an integer off the front of `input`.
pub(crate) fn take(input: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if index == 9 && bits > 1 {
            break;
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            *input = &input[index + 1..];
            return Ok(value);
        }
    }
    Err(Error::decode("varint is cut or too long"))
}

/// Takes `count` bytes off the front of `input`.
pub(crate) fn take_bytes<'a>(input: &mut &'a [u8], count: u64) -> Result<&'a [u8], Error> {
    let taken = usize::try_from(count).ok().and_then(|count| input.split_at_checked(count));
    let (bytes, rest) = taken.ok_or_else(|| Error::decode("bytes end too early"))?;
    *input = rest;
    Ok(bytes)
}

/// Takes an array of exactly `N` bytes off the front of `input`.
pub(crate) fn take_array<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], Error> {
    let (array, rest) = input.split_first_chunk().ok_or_else(|| Error::decode("bytes end too early"))?;
    *input = rest;
    Ok(*array)
}

/// Takes a length and as many bytes off the front of `input`.
pub(crate) fn take_string<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = take(input)?;
    take_bytes(input, length)
}

/// Appends a length and the bytes.
pub(crate) fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusal() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut input = bytes.as_slice();
            assert_eq!(take(&mut input).ok(), Some(value));
            assert!(input.is_empty());
            assert!(take(&mut &bytes[..bytes.len() - 1]).is_err());
        }
        assert!(take(&mut [0xff; 11].as_slice()).is_err());
        assert!(take_bytes(&mut [0u8; 3].as_slice(), u64::MAX).is_err());
    }
}
