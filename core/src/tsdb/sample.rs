//! What a series of the general path has as samples: numbers, or histograms. Both are kept, sealed and compacted alike; here
//! is what differs.
//!
//! ```text
//! samples of a series:  times (see codec.rs) | numbers: a column (see codec.rs)
//!                                            | histograms: each as the difference to the one before (see histogram/codec.rs)
//! ```

use std::sync::Arc;

use super::block::{BlockSeries, Index};
use super::codec::{self, Decoder, Encoder};
use super::loose::{Log, State};
use super::varint::Cursor;
use super::Result;
use crate::histogram::Histogram;

pub trait Sample: Clone {
    /// The kind of chunk that holds such samples.
    const KIND: u8;

    fn log(state: &State) -> &Log<Self>;
    fn log_mut(state: &mut State) -> &mut Log<Self>;

    /// A block's series with such samples.
    fn of_block(index: &Index) -> &[BlockSeries];

    /// The number of each one's first entry in the packs.
    fn bases_of(index: &Index) -> Vec<u64>;

    /// As how many open samples it counts.
    fn weight(&self) -> u64;

    fn encode_values<'a>(values: impl Iterator<Item = &'a Self>, encoder: &mut Encoder, out: &mut Vec<u8>)
    where
        Self: 'a;

    fn decode_values(cursor: &mut Cursor<'_>, count: usize, decoder: &mut Decoder) -> Result<Vec<Self>>;

    /// Writes samples of one series, ascending in time.
    fn encode(samples: &[(i64, Self)], encoder: &mut Encoder, out: &mut Vec<u8>) {
        let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
        codec::encode_integers(&times, out);
        Self::encode_values(samples.iter().map(|s| &s.1), encoder, out);
    }

    /// Reads what `encode` wrote, of at most so many samples.
    fn decode(cursor: &mut Cursor<'_>, count: usize, decoder: &mut Decoder) -> Result<Vec<(i64, Self)>> {
        let times = codec::decode_integers(cursor, count)?;
        let values = Self::decode_values(cursor, times.len(), decoder)?;
        Ok(times.into_iter().zip(values).collect())
    }
}

impl Sample for f64 {
    const KIND: u8 = 2;

    fn log(state: &State) -> &Log<f64> {
        &state.floats
    }

    fn log_mut(state: &mut State) -> &mut Log<f64> {
        &mut state.floats
    }

    fn of_block(index: &Index) -> &[BlockSeries] {
        &index.series
    }

    fn bases_of(index: &Index) -> Vec<u64> {
        index.series_bases()
    }

    fn weight(&self) -> u64 {
        1
    }

    fn encode_values<'a>(values: impl Iterator<Item = &'a f64>, encoder: &mut Encoder, out: &mut Vec<u8>) {
        encoder.encode(&values.copied().collect::<Vec<f64>>(), out);
    }

    fn decode_values(cursor: &mut Cursor<'_>, count: usize, decoder: &mut Decoder) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        decoder.decode(cursor, count, &mut values)?;
        Ok(values)
    }
}

impl Sample for Arc<Histogram> {
    const KIND: u8 = 3;

    fn log(state: &State) -> &Log<Arc<Histogram>> {
        &state.histograms
    }

    fn log_mut(state: &mut State) -> &mut Log<Arc<Histogram>> {
        &mut state.histograms
    }

    fn of_block(index: &Index) -> &[BlockSeries] {
        &index.histograms
    }

    fn bases_of(index: &Index) -> Vec<u64> {
        index.histogram_bases()
    }

    fn weight(&self) -> u64 {
        // Many small samples may be open, and a few kilobytes of each series.
        1 + (self.bytes() >> 8) as u64
    }

    fn encode_values<'a>(values: impl Iterator<Item = &'a Arc<Histogram>>, _: &mut Encoder, out: &mut Vec<u8>) {
        let mut before = None;
        for value in values {
            value.encode(before, out);
            before = Some(value);
        }
    }

    fn decode_values(cursor: &mut Cursor<'_>, count: usize, _: &mut Decoder) -> Result<Vec<Arc<Histogram>>> {
        let mut values: Vec<Arc<Histogram>> = Vec::new();
        for _ in 0..count {
            values.push(Arc::new(Histogram::decode(values.last().map(|v| &**v), cursor)?));
        }
        Ok(values)
    }
}
