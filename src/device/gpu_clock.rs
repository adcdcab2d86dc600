//! Timestamp queries: the GPU's own clock at both ends of a compute pass.

use crate::error::{Error, Result};

/// Two ticks of 8 bytes.
const BYTES: u64 = 16;

/// A pair of timestamps that a pass writes, and the buffers they are read through.
#[derive(Debug)]
pub(super) struct Stopwatch {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    /// Nanoseconds of a tick.
    period: f64,
}

impl Stopwatch {
    /// The device must have been opened with `TIMESTAMP_QUERY`.
    pub(super) fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("stopwatch"),
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        });
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("stopwatch"),
                size: BYTES,
                usage,
                mapped_at_creation: false,
            })
        };
        Stopwatch {
            queries,
            resolved: buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period: queue.get_timestamp_period().into(),
        }
    }

    /// What the timed pass is begun with.
    pub(super) fn writes(&self) -> wgpu::ComputePassTimestampWrites<'_> {
        wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(0),
            end_of_pass_write_index: Some(1),
        }
    }

    /// After the timed pass, in the same encoder.
    pub(super) fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        encoder.resolve_query_set(&self.queries, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, BYTES);
    }

    /// After the submission and before waiting for it.
    pub(super) fn map(&self) {
        // The outcome arrives in the uncaptured-error handler and in get_mapped_range.
        self.staging.map_async(wgpu::MapMode::Read, .., |_| {});
    }

    /// After waiting: seconds between the two timestamps. A clock that ran backwards, as it may when
    /// the GPU changes its power state, is an error.
    pub(super) fn seconds(&self) -> Result<f64> {
        let ticks: [u64; 2] = {
            let view = self
                .staging
                .get_mapped_range(..)
                .map_err(|e| Error::device("cannot read the GPU's timestamps").why(e))?;
            let mut ticks = [0; 2];
            bytemuck::cast_slice_mut(&mut ticks).copy_from_slice(&view);
            ticks
        };
        self.staging.unmap();
        let elapsed = ticks[1].checked_sub(ticks[0]).ok_or_else(|| {
            Error::device("the GPU's clock ran backwards")
                .why(format!("timestamps {} and then {}", ticks[0], ticks[1]))
                .help("measure again")
        })?;
        Ok(elapsed as f64 * self.period * 1e-9)
    }
}
