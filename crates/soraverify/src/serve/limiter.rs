//! How often one address may ask.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most addresses that are remembered; those that asked little are forgotten first.
const ADDRESSES: usize = 4096;

/// A bucket of tokens for each address: a minute's are there at first, and come back evenly.
pub(crate) struct Limiter {
    most: f64,
    buckets: Mutex<HashMap<IpAddr, (f64, Instant)>>,
}

impl Limiter {
    pub(crate) fn per_minute(most: u32) -> Self {
        Self { most: most.into(), buckets: Mutex::default() }
    }

    /// Takes a token, or says how long there will be none.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let per_second = self.most / 60.0;
        let refilled = |(tokens, at): (f64, Instant)| {
            (tokens + now.saturating_duration_since(at).as_secs_f64() * per_second).min(self.most)
        };
        let address = subscriber(address);
        if buckets.len() >= ADDRESSES && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| refilled(*bucket) < self.most);
            if buckets.len() >= ADDRESSES {
                // Everybody is at it: nobody new gets in for a while.
                return Err(Duration::from_secs(60));
            }
        }
        let tokens = buckets.get(&address).map_or(self.most, |bucket| refilled(*bucket));
        let (left, result) = match tokens >= 1.0 {
            true => (tokens - 1.0, Ok(())),
            false => (tokens, Err(Duration::from_secs_f64((1.0 - tokens) / per_second))),
        };
        buckets.insert(address, (left, now));
        result
    }
}

/// A subscriber has one address of IPv4, and 2^64 of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) >> 64 << 64).into()),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_is_there_at_once_and_comes_back_evenly() {
        let (limiter, start) = (Limiter::per_minute(6), Instant::now());
        let address: IpAddr = [10, 0, 0, 1].into();
        for _ in 0..6 {
            assert_eq!(limiter.take(address, start), Ok(()));
        }
        let wait = limiter.take(address, start).expect_err("nothing is left");
        assert!((9.9..10.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(limiter.take([10, 0, 0, 2].into(), start), Ok(()), "others are others");
        assert!(limiter.take(address, start + Duration::from_secs(9)).is_err());
        assert_eq!(limiter.take(address, start + Duration::from_millis(10_001)), Ok(()));
    }

    #[test]
    fn many_addresses_take_no_more_memory_and_one_network_is_one() {
        let (limiter, start) = (Limiter::per_minute(1), Instant::now());
        for number in 0..10_000u32 {
            let _ = limiter.take(IpAddr::V4(number.into()), start);
        }
        assert!(limiter.buckets.lock().expect("no panic").len() <= ADDRESSES);
        let later = start + Duration::from_secs(120);
        assert_eq!(limiter.take("2001:db8::1".parse().expect("an address"), later), Ok(()));
        assert!(limiter.take("2001:db8::2".parse().expect("an address"), later).is_err());
    }
}
