//! Queueing in closed form: bounds that stand beside a simulation, and never in its place.
//!
//! Continuous batching makes the time of service depend on the load, so none of this is valid of an engine as it stands. It
//! says what pooling saves and which order of magnitude a waiting time has.

/// So many servers, or slots, that each take one customer at a time, first come, first served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Queue {
    /// Servers.
    pub servers: u32,
    /// Customers that arrive in a unit of time.
    pub arrivals: f64,
    /// The mean time of service, in the same unit.
    pub service: f64,
}

/// Customers come faster than they are served: no waiting time is long enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooBusy;

impl Queue {
    /// Servers that would be busy if there were enough: `a = lambda E[S]`, in erlangs.
    #[must_use]
    pub fn offered(&self) -> f64 {
        self.arrivals * self.service
    }

    /// How busy each server is: `a / k`.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        self.offered() / f64::from(self.servers)
    }

    /// The probability that all are busy and customers are sent away (Erlang B), by the recursion
    /// `B_i = a B_(i-1) / (i + a B_(i-1))`.
    #[must_use]
    pub fn blocked(&self) -> f64 {
        let load = self.offered();
        (1..=self.servers).fold(1.0, |blocked, servers| {
            let weight = load * blocked;
            weight / (f64::from(servers) + weight)
        })
    }

    /// The probability of having to wait (Erlang C): `B / (1 - rho (1 - B))`.
    ///
    /// # Errors
    /// [`TooBusy`] if the queue grows without end.
    pub fn waits(&self) -> Result<f64, TooBusy> {
        let (blocked, busy) = (self.blocked(), self.utilisation());
        if busy < 1.0 { Ok(blocked / (1.0 - busy * (1.0 - blocked))) } else { Err(TooBusy) }
    }

    /// The mean wait with Poisson arrivals and exponential service: `C / (k mu - lambda)`.
    ///
    /// # Errors
    /// [`TooBusy`] if the queue grows without end.
    pub fn mean_wait(&self) -> Result<f64, TooBusy> {
        Ok(self.waits()? * self.service / (f64::from(self.servers) - self.offered()))
    }

    /// The mean wait with any spread of arrivals and service, as squared coefficients of variation: `(ca2 + cs2) / 2` times
    /// that of M/M/k. Beyond a spread of service of 1 it is too high, by a third at 4.
    ///
    /// # Errors
    /// [`TooBusy`] if the queue grows without end.
    ///
    /// # Source
    /// Lee and Longton 1959; Allen 1990 (the Allen-Cunneen approximation).
    pub fn mean_wait_of(&self, arrivals_cv2: f64, service_cv2: f64) -> Result<f64, TooBusy> {
        Ok(self.mean_wait()? * f64::midpoint(arrivals_cv2, service_cv2))
    }

    /// The wait that a share of customers stays within: with M/M/k it is above `t` with probability
    /// `C exp(-(k mu - lambda) t)`.
    ///
    /// # Errors
    /// [`TooBusy`] if the queue grows without end.
    pub fn wait_quantile(&self, share: f64) -> Result<f64, TooBusy> {
        let waits = self.waits()?;
        let beyond = 1.0 - share;
        if waits <= beyond {
            return Ok(0.0);
        }
        let drain = (f64::from(self.servers) - self.offered()) / self.service;
        Ok(libm::log(waits / beyond) / drain)
    }

    /// The fewest servers with which a share of customers waits no longer than `limit`; `None` beyond a million.
    #[must_use]
    pub fn fewest(arrivals: f64, service: f64, share: f64, limit: f64) -> Option<u32> {
        const MOST: u32 = 1_000_000;
        let enough = |servers: u32| {
            let queue = Self { servers, arrivals, service };
            queue.wait_quantile(share).is_ok_and(|wait| wait <= limit)
        };
        let (mut least, mut most) = (1, 1_u32);
        while !enough(most) {
            least = most + 1;
            most = most.checked_mul(2).filter(|most| *most <= MOST)?;
        }
        while least < most {
            let middle = least.midpoint(most);
            if enough(middle) { most = middle } else { least = middle + 1 }
        }
        Some(most)
    }
}

/// Servers for a load of so many erlangs: `R + beta sqrt(R)`, rounded up. A beta of 1 has about one in four wait, of 2 one in
/// forty.
///
/// # Source
/// Halfin and Whitt, Operations Research 29 (1981).
#[must_use]
pub fn square_root_staffing(offered: f64, beta: f64) -> u32 {
    let servers = offered + beta * offered.max(0.0).sqrt();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let whole = servers.ceil() as u32;
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_server_waits_as_in_the_textbook() {
        // M/M/1: the probability of waiting is rho, and Wq = rho / (mu - lambda).
        let queue = Queue { servers: 1, arrivals: 0.8, service: 1.0 };
        assert!((queue.waits().unwrap() - 0.8).abs() < 1e-12);
        assert!((queue.mean_wait().unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(Queue { arrivals: 1.0, ..queue }.waits(), Err(TooBusy));
    }

    #[test]
    fn staffing_has_the_probability_of_waiting_that_it_promises() {
        for (beta, least, most) in [(1.0, 0.18, 0.26), (2.0, 0.015, 0.04)] {
            let servers = square_root_staffing(10_000.0, beta);
            let waits = Queue { servers, arrivals: 10_000.0, service: 1.0 }.waits().unwrap();
            assert!((least..most).contains(&waits), "{beta}: {waits}");
        }
    }

    proptest! {
        #[test]
        fn the_fewest_servers_are_enough_and_one_less_is_not(
            load in 0.01..400.0_f64, share in 0.5..0.999_f64, limit in 0.0..2.0_f64,
        ) {
            let fewest = Queue::fewest(load, 1.0, share, limit).unwrap();
            let wait = |servers| {
                Queue { servers, arrivals: load, service: 1.0 }.wait_quantile(share)
            };
            prop_assert!(wait(fewest).unwrap() <= limit);
            if fewest > 1 {
                prop_assert!(wait(fewest - 1).is_err() || wait(fewest - 1).unwrap() > limit);
            }
        }

        #[test]
        fn more_servers_never_wait_longer(load in 0.1..50.0_f64, more in 1_u32..20) {
            let at = |servers| Queue { servers, arrivals: load, service: 1.0 }.mean_wait();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let enough = load as u32 + 1;
            prop_assert!(at(enough + more).unwrap() <= at(enough).unwrap());
        }
    }
}
