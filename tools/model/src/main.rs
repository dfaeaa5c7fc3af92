//! Checks the lock, the gate and the lowering of the next expiry as they stand in `src`, in the orders in which two or three
//! threads may take their steps and see each other's. Then makes single parts weaker, one at a time, and fails if the models
//! do not notice.
//!
//! Not modelled: the tables, which grow under a mutex, and the bounds by which a decision looks at providers (`peak`): they are
//! read without a lock on purpose, and only tell where to look first.

#[allow(dead_code, reason = "each model uses its part")]
#[path = "../../../src/cell.rs"]
mod cell;
#[cfg(feature = "fault-injection")]
#[allow(dead_code, reason = "likewise")]
#[path = "../../../src/fault.rs"]
mod fault;
#[allow(dead_code, reason = "likewise")]
#[path = "../../../src/gate.rs"]
mod gate;
#[allow(dead_code, reason = "likewise")]
#[path = "../../../src/lock.rs"]
mod lock;
mod sync;

use std::process::{Command, ExitCode, Stdio};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use cell::Cell;
use gate::Gate;
use lock::Lock;
use sync::atomic::{PLANTED, Planted, planted};
use sync::choose_stripe;

/// Who holds a lock.
const ALIVE: u64 = 1;
const DEAD: u64 = 2;

/// So many times at most may a thread lose its core where it does not wait. Nearly all bugs show with two.
const PREEMPTIONS: usize = 5;

fn model(check: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(check);
}

/// What only one thread may touch at a time; loom notices two, and a write that is not seen.
#[derive(Default)]
struct Guarded {
    lock: Lock,
    value: UnsafeCell<u64>,
}

impl Guarded {
    #[allow(unsafe_code, reason = "what the lock guards, which is what is checked")]
    fn add_one(&self) -> u64 {
        let _guard = self.lock.lock(ALIVE, |_| ());
        self.step()
    }

    /// Under the lock.
    #[allow(unsafe_code, reason = "likewise")]
    fn step(&self) -> u64 {
        // SAFETY: the lock is held; loom checks that nobody else is here.
        self.value.with_mut(|value| unsafe {
            *value += 1;
            *value
        })
    }
}

/// Threads exclude each other, and no step is lost.
fn lock_excludes() {
    model(|| {
        let shared = Arc::new(Guarded::default());
        let other = shared.clone();
        let thread = thread::spawn(move || {
            other.add_one();
            other.add_one();
        });
        shared.add_one();
        assert!(thread.join().is_ok());
        assert_eq!(shared.add_one(), 4);
    });
}

/// A lock whose holder has died is taken over by one, and what the holder wrote is seen.
fn lock_is_seized_once() {
    model(|| {
        let shared = Arc::new(Guarded::default());
        let other = shared.clone();
        let dead = thread::spawn(move || {
            let guard = other.lock.lock(DEAD, |_| ());
            other.step();
            std::mem::forget(guard);
        });
        assert!(dead.join().is_ok());
        let heirs = [0, 1].map(|_| {
            let shared = shared.clone();
            thread::spawn(move || {
                let seized = shared.lock.seize(DEAD, ALIVE);
                let is_first = seized.is_some();
                if is_first {
                    shared.step();
                }
                drop(seized);
                if !is_first {
                    // Comes after the first.
                    shared.add_one();
                }
                is_first
            })
        });
        let seized = heirs.map(|heir| heir.join().unwrap_or(false));
        assert!(seized[0] != seized[1]);
        assert_eq!(shared.add_one(), 4);
    });
}

/// A reader sees a change whole or not at all, and nobody waits for good.
fn gate_shows_no_torn_value() {
    model(|| {
        let gate = Arc::new(Gate::new((0u64, 0u64)));
        let other = gate.clone();
        let reader = thread::spawn(move || {
            choose_stripe(1);
            let mut held = other.read();
            let first = held.0;
            if planted(Planted::Hold) {
                drop(held);
                held = other.read();
            }
            assert_eq!(held.1, first);
        });
        gate.write(|value| {
            value.0 += 1;
            value.1 += 1;
        });
        assert_eq!(*gate.read(), (1, 1));
        assert!(reader.join().is_ok());
    });
}

/// Readers who meet at a stripe both get in.
fn gate_lets_readers_pass() {
    model(|| {
        let gate = Arc::new(Gate::new(7u64));
        let other = gate.clone();
        let thread = thread::spawn(move || assert_eq!(*other.read(), 7));
        let held = gate.read();
        // Only this ends the other one's wait, if it does wait.
        assert!(thread.join().is_ok());
        assert_eq!(*held, 7);
    });
}

/// Two who change it do so one after the other, and who reads after a change sees it.
fn gate_loses_no_change() {
    model(|| {
        let gate = Arc::new(Gate::new(0u64));
        let other = gate.clone();
        let thread = thread::spawn(move || {
            choose_stripe(1);
            other.write(|value| *value += 1);
            assert!(*other.read() >= 1);
        });
        gate.write(|value| *value += 1);
        assert!(thread.join().is_ok());
        assert_eq!(*gate.read(), 2);
    });
}

/// A provider as `State::expire_leases` sees it: its lock, and when its oldest lease expires.
#[derive(Default)]
struct Leases {
    lock: Lock,
    oldest: Cell,
}

/// Whoever looks for expired leases raises the next expiry first; a lease that is granted meanwhile lowers it.
fn next_expiry_misses_no_lease() {
    model(|| {
        let next = Arc::new(Cell::default());
        let all = Arc::new([Leases::default(), Leases::default()]);
        all[0].oldest.set(u64::MAX);
        all[1].oldest.set(7);
        let (next_granted, granting) = (next.clone(), all.clone());
        let thread = thread::spawn(move || {
            let _guard = granting[0].lock.lock(ALIVE, |_| ());
            granting[0].oldest.set(5);
            next_granted.lower(5);
        });
        next.set(u64::MAX);
        for leases in all.iter() {
            let guard = leases.lock.lock(ALIVE, |_| ());
            let oldest = leases.oldest.get();
            drop(guard);
            next.lower(oldest);
        }
        assert!(thread.join().is_ok());
        assert_eq!(next.get(), 5);
    });
}

const MODELS: [(&str, fn()); 6] = [
    ("the lock excludes, and loses no step", lock_excludes),
    ("the gate shows no torn value, and nobody is stuck", gate_shows_no_torn_value),
    ("the gate loses no change", gate_loses_no_change),
    ("the next expiry misses no lease", next_expiry_misses_no_lease),
    ("the lock of one who died is taken over once", lock_is_seized_once),
    ("the gate lets readers pass who meet", gate_lets_readers_pass),
];

/// What is planted in which model.
const PLANTS: [(&str, Planted, usize); 6] = [
    ("a lock that is released without its writes", Planted::Release, 0),
    ("a lock that is taken in two steps", Planted::Exchange, 0),
    ("a reader that lets go between two looks", Planted::Hold, 1),
    ("a gate that is left without its writes", Planted::Release, 2),
    ("a minimum that is written in two steps", Planted::Min, 3),
    ("a lock that is taken over in two steps", Planted::Exchange, 4),
];

/// Runs one model in a process of its own: a check that fails ends it.
fn holds(model: usize, plant: Option<usize>) -> bool {
    let Ok(program) = std::env::current_exe() else { return false };
    let mut command = Command::new(program);
    command.arg(model.to_string());
    if let Some(plant) = plant {
        command.arg(plant.to_string()).stderr(Stdio::null());
    }
    command.status().is_ok_and(|status| status.success())
}

fn main() -> ExitCode {
    let arguments: Vec<usize> = std::env::args().skip(1).filter_map(|n| n.parse().ok()).collect();
    if let Some((_, run)) = arguments.first().and_then(|&model| MODELS.get(model)) {
        if let Some((_, what, _)) = arguments.get(1).and_then(|&plant| PLANTS.get(plant)) {
            let _ = PLANTED.set(*what);
        }
        run();
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    let mut judge = |name: &str, good: bool| {
        println!("{} {name}", if good { "ok" } else { "FAIL" });
        *(if good { &mut passed } else { &mut failed }) += 1;
    };
    for (model, (name, _)) in MODELS.iter().enumerate() {
        judge(name, holds(model, None));
    }
    for (plant, (name, _, model)) in PLANTS.iter().enumerate() {
        judge(&format!("noticed: {name}"), !holds(*model, Some(plant)));
    }
    println!("model: {passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
