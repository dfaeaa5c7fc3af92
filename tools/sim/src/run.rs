//! One router in one scenario, event by event.
//!
//! Requests wait in one queue, first come, first served. A request whose attempt failed goes back to the front, at once
//! the first time and after a pause later, and asks for another provider first; if no other is free, any will do. It is
//! given up after [`ATTEMPTS`] attempts, or when it waited too long.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::input::{ATTEMPTS, Input};
use crate::provider::{Headers, Provider, Reaction};
use crate::router::{Answer, Ask, Choice, Reply, Router};
use crate::scenario::{MS, SECOND, Scenario};
use crate::tally::Tally;

/// How long the queue waits for a router that names no time.
const POLL: u64 = 50 * MS;
/// The pause after the first, second, ... failed attempt, give or take a half, so that failed requests do not come back
/// all together.
const PAUSES: [u64; ATTEMPTS - 1] = [0, SECOND, 2 * SECOND];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request arrives.
    Arrival(usize),
    /// Another user's request reaches a provider.
    Others(usize),
    /// An attempt reaches its provider.
    Reached(usize),
    /// A provider is done with a request.
    Released(usize),
    /// The answer is there, or the time is over.
    Answered(usize),
    /// A request comes back after a failed attempt.
    Returned(Waiting),
    /// The queue was to wait until now.
    Woken,
}

/// A request that is waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    request: usize,
    attempts: usize,
    failed_at: Option<usize>,
}

/// A request that was sent.
struct Attempt {
    waiting: Waiting,
    provider: usize,
    ticket: u64,
    sent: u64,
    answer: Answer,
    headers: Headers,
}

struct Run<'a> {
    scenario: &'a Scenario,
    input: &'a Input,
    router: &'a mut dyn Router,
    providers: Vec<Provider<'a>>,
    now: u64,
    /// Ordered by time, then by the order in which they were added.
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    added: u64,
    queue: VecDeque<Waiting>,
    attempts: Vec<Attempt>,
    wake: Option<u64>,
    tally: Tally,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario, input: &Input, router: &mut dyn Router) -> Tally {
    let mut run = Run {
        scenario,
        input,
        router,
        providers: scenario.providers.iter().map(Provider::new).collect(),
        now: 0,
        events: BinaryHeap::new(),
        added: 0,
        queue: VecDeque::new(),
        attempts: Vec::new(),
        wake: None,
        tally: Tally::default(),
    };
    for (i, request) in input.requests.iter().enumerate() {
        run.add(request.arrives, Event::Arrival(i));
    }
    for (provider, arrivals) in input.others.iter().enumerate() {
        for &at in arrivals {
            run.add(at, Event::Others(provider));
        }
    }
    while let Some(Reverse((at, _, event))) = run.events.pop() {
        run.now = at;
        run.handle(event);
    }
    run.tally
}

impl Run<'_> {
    fn add(&mut self, at: u64, event: Event) {
        self.added += 1;
        self.events.push(Reverse((at, self.added, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrival(request) => {
                self.tally.offered += 1;
                self.queue.push_back(Waiting { request, attempts: 0, failed_at: None });
                self.serve_queue();
            }
            Event::Others(provider) => self.providers[provider].take_from_others(self.now),
            Event::Reached(attempt) => self.reached(attempt),
            Event::Released(provider) => self.providers[provider].release(),
            Event::Answered(attempt) => self.answered(attempt),
            Event::Returned(waiting) => {
                self.queue.push_front(waiting);
                self.serve_queue();
            }
            Event::Woken => {
                // An earlier waking may have replaced this one.
                if self.wake == Some(self.now) {
                    self.wake = None;
                    self.serve_queue();
                }
            }
        }
    }

    fn serve_queue(&mut self) {
        while let Some(waiting) = self.queue.pop_front() {
            let request = &self.input.requests[waiting.request];
            if self.now > request.arrives + self.scenario.patience {
                continue;
            }
            let ask = Ask { tokens: request.estimate, avoid: waiting.failed_at };
            let mut choice = self.router.choose(self.now, &ask);
            if matches!(choice, Choice::Wait(_)) && ask.avoid.is_some() {
                choice = self.router.choose(self.now, &Ask { avoid: None, ..ask });
            }
            match choice {
                Choice::Send { provider, ticket } => self.send(waiting, provider, ticket),
                Choice::Wait(hint) => {
                    self.queue.push_front(waiting);
                    // At least once a second, because other events may free a provider earlier than it was foretold.
                    let at = self.now + hint.unwrap_or(POLL).clamp(MS, SECOND);
                    if self.wake.is_none_or(|wake| at < wake) {
                        self.wake = Some(at);
                        self.add(at, Event::Woken);
                    }
                    return;
                }
            }
        }
    }

    fn send(&mut self, mut waiting: Waiting, provider: usize, ticket: u64) {
        let fate = self.input.requests[waiting.request].fates[waiting.attempts];
        waiting.attempts += 1;
        self.tally.attempts += 1;
        self.add(self.now + fate.there, Event::Reached(self.attempts.len()));
        let (sent, answer, headers) = (self.now, Answer::TimedOut, Headers::new());
        self.attempts.push(Attempt { waiting, provider, ticket, sent, answer, headers });
    }

    fn reached(&mut self, index: usize) {
        let attempt = &mut self.attempts[index];
        let request = &self.input.requests[attempt.waiting.request];
        let fate = request.fates[attempt.waiting.attempts - 1];
        let gives_up = attempt.sent + self.scenario.timeout;
        let provider = attempt.provider;
        let (took, answer, headers) =
            match self.providers[provider].take(self.now, request.tokens, fate.luck, fate.pace) {
                Reaction::Serves(took, headers) => (Some(took), Answer::Served, headers),
                Reaction::Refuses(took, headers) => (Some(took), Answer::RateLimited, headers),
                Reaction::Fails(took) => (Some(took), Answer::Error, Headers::new()),
                Reaction::IsSilent => (None, Answer::TimedOut, Headers::new()),
            };
        let serves = answer == Answer::Served;
        let done = took.map(|took| self.now + took);
        let answered = done.map(|done| done + fate.back).filter(|at| *at <= gives_up);
        if answered.is_some() {
            (attempt.answer, attempt.headers) = (answer, headers);
        }
        if let Some(done) = done.filter(|_| serves) {
            // A caller that hangs up ends the work, as soon as the provider hears of it.
            self.add(done.min(gives_up + fate.there), Event::Released(provider));
        }
        self.add(answered.unwrap_or(gives_up), Event::Answered(index));
    }

    fn answered(&mut self, index: usize) {
        let attempt = &mut self.attempts[index];
        let (provider, answer) = (attempt.provider, attempt.answer);
        let headers = std::mem::take(&mut attempt.headers);
        let Waiting { request, attempts, .. } = attempt.waiting;
        let drawn = &self.input.requests[request];
        let reply = Reply {
            provider,
            ticket: attempt.ticket,
            answer,
            tokens: if answer == Answer::Served { drawn.tokens } else { 0 },
            latency: self.now - attempt.sent,
            headers: &headers,
        };
        self.router.settle(self.now, &reply);
        match answer {
            Answer::Served => {
                let priority = f64::from(self.scenario.providers[provider].priority);
                self.tally.served += 1;
                self.tally.priority += priority / f64::from(self.scenario.highest_priority());
            }
            Answer::RateLimited => self.tally.refused += 1,
            Answer::Error | Answer::TimedOut => {}
        }
        if answer != Answer::Served {
            self.tally.failed += 1;
            if let Some(&pause) = PAUSES.get(attempts - 1) {
                let pause = (pause as f64 * (0.5 + drawn.fates[attempts].luck)) as u64;
                let waiting = Waiting { request, attempts, failed_at: Some(provider) };
                self.add(self.now + pause, Event::Returned(waiting));
            }
        }
        self.serve_queue();
    }
}
