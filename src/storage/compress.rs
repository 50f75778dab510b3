//! The compressors, behind one function. Levels: what is compressed once and kept may take a little more time than what is
//! compressed for each client.

use crate::origin::Coding;
use brotli::enc::BrotliEncoderParams;
use std::io::{self, Read, Write};

/// Of zstd's 1 to 22, brotli's 0 to 11, gzip's 0 to 9.
const ZSTD: i32 = 7;
const BROTLI: i32 = 5;
const GZIP: u32 = 6;
/// Brotli's window, as a power of two: what browsers must be able to hold.
const WINDOW: i32 = 22;

/// Compresses all of `source` into `sink`.
///
/// # Errors
/// What reading or writing said.
pub fn compress(coding: Coding, source: &mut impl Read, sink: &mut impl Write) -> io::Result<()> {
    match coding {
        Coding::Zstd => zstd::stream::copy_encode(source, sink, ZSTD),
        Coding::Brotli => {
            let params = BrotliEncoderParams { quality: BROTLI, lgwin: WINDOW, ..Default::default() };
            brotli::BrotliCompress(source, sink, &params).map(drop)
        }
        Coding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(sink, flate2::Compression::new(GZIP));
            io::copy(source, &mut encoder)?;
            encoder.finish().map(drop)
        }
    }
}
