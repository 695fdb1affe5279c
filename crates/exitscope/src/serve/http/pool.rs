//! Threads that serve connections: all of them are there from the begin, and there are never more.

use super::auth::Auth;
use super::connection::Service;
use super::desk::Desk;
use rustls::ServerConfig;
use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Threads, and so connections that are served at a time.
pub const THREADS: usize = 64;

/// Bytes of a thread's stack, of which those that are used take memory. Packing takes the most.
const STACK: usize = 1 << 20;

/// Connections that wait for a thread. Of more, those that have waited longest are closed.
const WAITING: usize = 64;

/// Time to wait where no connection can be taken, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection that a thread serves.
struct Served {
    stream: Arc<TcpStream>,
    since: Instant,
    /// No request of it is being answered.
    is_waiting: Arc<AtomicBool>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<TcpStream>,
    served: Vec<Served>,
}

struct Shared {
    state: Mutex<State>,
    came: Condvar,
    service: Service,
}

/// The threads.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

impl Pool {
    /// Starts them. Each waits for `started`.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(
        desk: Arc<Desk>,
        tls: Option<Arc<ServerConfig>>,
        auth: Auth,
        started: &Arc<Barrier>,
    ) -> io::Result<Pool> {
        let service = Service { desk, tls, auth, written: AtomicUsize::new(0) };
        let shared = Arc::new(Shared { state: Mutex::default(), came: Condvar::new(), service });
        for _ in 0..THREADS {
            let (shared, started) = (shared.clone(), started.clone());
            let work = move || {
                started.wait();
                shared.work();
            };
            thread::Builder::new().name("serve".into()).stack_size(STACK).spawn(work)?;
        }
        Ok(Pool(shared))
    }

    /// Takes connections, for ever.
    pub fn accept(&self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.0.take(stream),
                // The client went away, or there are no descriptors left.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a connection to a thread. If all have one, the one that has waited longest for a request makes room.
    fn take(&self, stream: TcpStream) {
        let mut state = self.lock();
        state.waiting.push_back(stream);
        if state.waiting.len() > WAITING {
            state.waiting.pop_front();
        }
        if state.served.len() >= THREADS {
            let waits = |served: &&Served| served.is_waiting.load(Ordering::Relaxed);
            if let Some(oldest) = state.served.iter().filter(waits).min_by_key(|served| served.since) {
                // It is gone already where that fails.
                let _ = oldest.stream.shutdown(Shutdown::Both);
            }
        }
        self.came.notify_one();
    }

    fn work(&self) {
        loop {
            let mut state = self.lock();
            let stream = loop {
                match state.waiting.pop_front() {
                    Some(stream) => break Arc::new(stream),
                    None => state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner),
                }
            };
            let is_waiting = Arc::new(AtomicBool::new(true));
            let served =
                Served { stream: stream.clone(), since: Instant::now(), is_waiting: is_waiting.clone() };
            state.served.push(served);
            drop(state);
            self.service.serve(stream.clone(), &is_waiting);
            self.lock().served.retain(|served| !Arc::ptr_eq(&served.stream, &stream));
        }
    }
}
