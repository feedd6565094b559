//! Sharing: who gets which value, who may give up, who is told what.

use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Barrier};

use soraengine::registry::{Making, OpenError, Registry};

#[derive(Clone, Debug, PartialEq)]
struct Failed(String);

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

type Shared = Registry<&'static str, String, Failed, u32>;

fn patient(_: Option<&u32>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Makes `value` once `go` says so; breaks off when nobody wants it.
fn on_signal(
    go: mpsc::Receiver<()>,
    value: &str,
) -> impl FnOnce(&Making<String, Failed, u32>) -> Result<String, Failed> + Send + 'static {
    let value = value.to_owned();
    move |making| {
        while go.try_recv().is_err() {
            if making.note(1).is_break() {
                return Err(Failed("called off".into()));
            }
            std::thread::yield_now();
        }
        Ok(value)
    }
}

#[test]
fn two_callers_share_one_value_and_it_is_made_once() {
    let registry = Shared::default();
    let made = Arc::new(AtomicUsize::new(0));
    let both = Barrier::new(2);
    let open = || {
        both.wait();
        let count = Arc::clone(&made);
        let make = move |_: &Making<_, _, _>| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok("model".to_owned())
        };
        let value = registry.open("a", make, &mut patient).expect("it is made");
        both.wait();
        value
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(open);
        let one = open();
        (one, other.join().expect("no panic"))
    });
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn the_value_is_freed_with_its_last_user_and_made_anew() {
    let registry = Shared::default();
    let first = registry.open("a", |_| Ok("first".into()), &mut patient).expect("it is made");
    let weak = Arc::downgrade(&first);
    drop(first);
    assert!(weak.upgrade().is_none(), "the registry must not keep the value");
    let second = registry.open("a", |_| Ok("second".into()), &mut patient).expect("it is made");
    assert_eq!(*second, "second");
}

#[test]
fn keys_are_kept_apart() {
    let registry = Shared::default();
    let a = registry.open("a", |_| Ok("a".into()), &mut patient).expect("it is made");
    let b = registry.open("b", |_| Ok("b".into()), &mut patient).expect("it is made");
    assert_eq!((a.as_str(), b.as_str()), ("a", "b"));
}

#[test]
fn one_caller_giving_up_does_not_take_the_value_from_the_other() {
    let registry = Shared::default();
    let (go, signal) = mpsc::channel();
    let give_up = AtomicBool::new(false);
    let (registry, give_up) = (&registry, &give_up);
    std::thread::scope(|scope| {
        let (tell_first, first_waits) = mpsc::channel();
        let first = scope.spawn(move || {
            registry.open("a", on_signal(signal, "model"), &mut |_| {
                let _ = tell_first.send(());
                if give_up.load(Ordering::SeqCst) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
        });
        first_waits.recv().expect("the first caller waits");
        let (tell_second, second_waits) = mpsc::channel();
        let second = scope.spawn(move || {
            registry.open("a", |_| Err(Failed("made twice".into())), &mut |_| {
                let _ = tell_second.send(());
                ControlFlow::Continue(())
            })
        });
        second_waits.recv().expect("the second caller waits");
        give_up.store(true, Ordering::SeqCst);
        assert_eq!(first.join().expect("no panic"), Err(OpenError::Cancelled));
        go.send(()).expect("the maker still waits for the signal");
        let second = second.join().expect("no panic").expect("the making went on");
        assert_eq!(*second, "model");
    });
}

#[test]
fn the_making_is_called_off_when_the_last_caller_gives_up() {
    let registry = Shared::default();
    let (_go, signal) = mpsc::channel();
    let (ended, has_ended) = mpsc::channel();
    let make = on_signal(signal, "never");
    let result = registry.open(
        "a",
        move |making| {
            let result = make(making);
            let _ = ended.send(result.clone());
            result
        },
        &mut |_| ControlFlow::Break(()),
    );
    assert_eq!(result, Err(OpenError::Cancelled));
    assert_eq!(has_ended.recv().expect("the maker ends"), Err(Failed("called off".into())));
    // And it does not stand in the way of the next caller.
    let next = registry.open("a", |_| Ok("next".into()), &mut patient).expect("it is made");
    assert_eq!(*next, "next");
}

#[test]
fn a_failure_reaches_all_who_wait_and_the_next_caller_tries_again() {
    let registry = Shared::default();
    let failed = registry.open("a", |_| Err(Failed("no such file".into())), &mut patient);
    assert_eq!(failed, Err(OpenError::Failed(Failed("no such file".into()))));
    let next = registry.open("a", |_| Ok("now it is there".into()), &mut patient);
    assert_eq!(*next.expect("it is made"), "now it is there");
}

#[test]
fn what_the_maker_says_arrives_in_order() {
    let registry = Shared::default();
    let mut heard: Vec<u32> = Vec::new();
    let make = |making: &Making<_, _, _>| {
        for note in 0..100 {
            assert!(making.note(note).is_continue());
        }
        Ok(String::new())
    };
    registry
        .open("a", make, &mut |note| {
            heard.extend(note);
            ControlFlow::Continue(())
        })
        .expect("it is made");
    assert_eq!(heard, (0..100).collect::<Vec<_>>());
}
