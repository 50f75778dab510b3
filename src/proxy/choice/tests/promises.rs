//! What every method promises, for any servers.

use super::super::{Asked, Choice, Load, Method, Tried};
use proptest::prelude::*;

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![Just(Method::RoundRobin), Just(Method::Least), Just(Method::TwoChoices), Just(Method::Hash)]
}

/// Weight, requests in flight, latency.
fn servers() -> impl Strategy<Value = Vec<(u32, u32, u64)>> {
    let weight = prop_oneof![3 => Just(100u32), 1 => Just(0u32), 1 => 1u32..1000, 1 => Just(u32::MAX)];
    let in_flight = prop_oneof![8 => 0u32..6, 1 => Just(u32::MAX)];
    prop::collection::vec((weight, in_flight, 0u64..100_000), 0..12)
}

fn loads(servers: &[(u32, u32, u64)]) -> Vec<Load> {
    let load = |(index, (weight, in_flight, latency)): (usize, &(u32, u32, u64))| {
        let mut load = Load::new((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), *weight);
        load.in_flight = *in_flight;
        if *latency > 50_000 {
            load.observe(*latency, 0);
        }
        load
    };
    servers.iter().enumerate().map(load).collect()
}

proptest! {
    #[test]
    fn only_who_may_be_chosen_is_and_somebody_is_if_possible(
        method in method(),
        rounds in prop::collection::vec((servers(), any::<u16>(), any::<u64>(), 0u16..14), 1..20),
        start: usize,
        seed: u64,
    ) {
        // The same choice sees servers that change from one request to the next.
        let count = rounds[0].0.len();
        let mut choice = Choice::new(method, count, start, seed);
        for (servers, full, key, except) in rounds {
            let mut loads = loads(&servers);
            loads.resize(count, Load::new(7, 0));
            loads.iter_mut().enumerate().for_each(|(index, load)| load.full = full >> index & 1 != 0);
            let uniform = loads.iter().all(|load| load.weight == loads[0].weight && load.weight > 0);
            let asked = Asked { now: 1_000_000, key, except: if except < 12 { Tried::default().and(except) } else { Tried::default() } };
            let mut picked = None;
            let counted = allocation_counter::measure(|| picked = choice.pick(&loads, uniform, &asked));
            prop_assert_eq!(counted.count_total, 0);
            let may = |index: usize| loads[index].weight > 0 && !loads[index].full;
            let may = |index: usize| may(index) && !asked.except.has(index as u16);
            match picked {
                None => prop_assert!(!(0..count).any(may)),
                Some(index) => prop_assert!(may(usize::from(index))),
            }
        }
    }

    #[test]
    fn a_rotation_is_exact_over_a_period(weights in prop::collection::vec(1u32..60, 1..9), start: usize) {
        let loads: Vec<Load> = weights.iter().map(|weight| Load::new(0, *weight)).collect();
        let mut choice = Choice::new(Method::RoundRobin, loads.len(), start, 0);
        let mut counts = vec![0; weights.len()];
        for _ in 0..weights.iter().sum() {
            counts[usize::from(choice.pick(&loads, false, &Asked::default()).unwrap())] += 1;
        }
        prop_assert_eq!(counts, weights);
    }
}
