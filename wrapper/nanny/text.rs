//! Short strings for the kernel.

use core::ffi::CStr;

/// A short string, put together: a path, or what is written into a file of the kernel's.
pub struct Text {
    bytes: [u8; 48],
    length: usize,
}

impl Text {
    pub fn new() -> Self {
        Self { bytes: [0; 48], length: 0 }
    }

    pub fn text(mut self, text: &[u8]) -> Self {
        for byte in text {
            self.push(*byte);
        }
        self
    }

    pub fn number(mut self, number: u32) -> Self {
        let mut divisor = 1_000_000_000;
        while divisor > 1 && number / divisor == 0 {
            divisor /= 10;
        }
        while divisor > 0 {
            self.push(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
        self
    }

    fn push(&mut self, byte: u8) {
        // The last byte stays zero.
        if let Some(place) = self.bytes.get_mut(..47).and_then(|bytes| bytes.get_mut(self.length)) {
            *place = byte;
            self.length += 1;
        }
    }

    pub fn as_c(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"/")
    }
}
