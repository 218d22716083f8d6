//! How much of a worker's free devices the usual requests cannot use: the measure that placement keeps from growing.
//!
//! After Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), for whole devices: with requests of `c` devices at share `p(c)`, a worker with
//! `f` free devices has `F(f) = Σ p(c) · f` for all `c > f` unusable ones in expectation. A placement of `n` grows it by
//! `F(f − n) − F(f)`, which may be negative.

/// Steps in which growth is told apart, as parts of a device. Finer steps let noise in the mix decide over cached weights and cost.
const STEPS: f64 = 8.0;

/// The mix of device counts that requests ask for of one flavor.
#[derive(Debug, Default, Clone)]
pub(super) struct Mix {
    /// How many requests ask for index + 1 devices.
    requests: Vec<u32>,
}

impl Mix {
    pub(super) fn learn(&mut self, count: u32) {
        let index = count.max(1) as usize - 1;
        if self.requests.len() <= index {
            self.requests.resize(index + 1, 0);
        }
        self.requests[index] += 1;
    }

    /// `F` for 0 to `most` free devices, in steps.
    pub(super) fn unusable(&self, most: u32) -> Vec<i32> {
        let all: u32 = self.requests.iter().sum();
        (0..=most)
            .map(|free| {
                let too_large: u32 = self.requests.iter().skip(free as usize).sum();
                if all == 0 {
                    return 0;
                }
                let expected = f64::from(free) * f64::from(too_large) / f64::from(all);
                // Devices of a worker are at most 1,024: this fits by far.
                (expected * STEPS).round() as i32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_devices_below_the_usual_request_are_unusable() {
        let mut mix = Mix::default();
        for count in [1, 1, 4, 4] {
            mix.learn(count);
        }
        let steps: Vec<f64> = mix
            .unusable(5)
            .into_iter()
            .map(|steps| f64::from(steps) / STEPS)
            .collect();
        // Half of the requests need 4: up to 3 free devices are half lost.
        assert_eq!(steps, [0.0, 0.5, 1.0, 1.5, 0.0, 0.0]);
        assert_eq!(Mix::default().unusable(2), [0, 0, 0]);
    }
}
