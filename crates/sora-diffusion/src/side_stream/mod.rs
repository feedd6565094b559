//! A GPU's work beside other work of it.
//!
//! What threads ask of a GPU is done one after the other: all of it goes into one stream of it, the current one. A thread
//! that has left that for a stream of its own ([`SideStream`]) has its work done beside that of the others, and may wait
//! for a point in theirs ([`Reached`]) without stopping anybody. On the CPU a thread's work is done when the call
//! returns, and all this is nothing.
//!
//! By libtorch's own interface to devices (`streams.cpp`), so there is one build for machines with and without CUDA.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null_mut};

use tch::{Device, TchError, Tensor};

use crate::error::Result;

/// `c10::StreamData3`.
#[repr(C)]
#[derive(Clone, Copy)]
struct StreamData {
    id: i64,
    device_index: i8,
    device_type: i8,
}

unsafe extern "C" {
    fn sora_stream_failure() -> *const c_char;
    fn sora_stream_leave(kind: i8, index: i8, before: *mut StreamData) -> bool;
    fn sora_stream_return(before: *const StreamData) -> bool;
    fn sora_stream_synchronize(kind: i8, index: i8) -> bool;
    fn sora_event_record(kind: i8, index: i8, event: *mut *mut c_void) -> bool;
    fn sora_event_wait(kind: i8, index: i8, event: *const c_void, tensor: *const c_void) -> bool;
    fn sora_event_free(event: *mut c_void);
}

/// A device that has streams, in libtorch's numbers (c10/core/DeviceType.h).
#[derive(Clone, Copy)]
struct Place {
    kind: i8,
    index: i8,
}

impl Place {
    /// `None` where work is done when the call returns.
    fn of(device: Device) -> Option<Self> {
        match device {
            // libtorch counts to 127 devices.
            Device::Cuda(index) => Some(Self { kind: 1, index: index as i8 }),
            _ => None,
        }
    }
}

/// The result of a call, or libtorch's reason.
fn checked(done: bool) -> Result<()> {
    if done {
        return Ok(());
    }
    // SAFETY: the text is this thread's, and copied before its next failure.
    let text = unsafe { CStr::from_ptr(sora_stream_failure()) }.to_string_lossy().into_owned();
    Err(TchError::Torch(text).into())
}

/// A stream that this thread's work on a device goes to, until this is dropped.
pub struct SideStream {
    before: StreamData,
    /// The current stream is a thread's own.
    _of_this_thread: PhantomData<*const ()>,
}

impl SideStream {
    /// Leaves the stream that this thread's work went to; `None` on the CPU.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn enter(device: Device) -> Result<Option<Self>> {
        Place::of(device).map(Self::enter_at).transpose()
    }

    fn enter_at(Place { kind, index }: Place) -> Result<Self> {
        let mut before = StreamData { id: 0, device_index: 0, device_type: 0 };
        // SAFETY: the pointer is valid for the call.
        checked(unsafe { sora_stream_leave(kind, index, &raw mut before) })?;
        Ok(Self { before, _of_this_thread: PhantomData })
    }
}

impl Drop for SideStream {
    fn drop(&mut self) {
        // SAFETY: it came from `sora_stream_leave`. To go back to what was there cannot fail.
        let _ = unsafe { sora_stream_return(&raw const self.before) };
    }
}

/// A point in the work of the thread that made it.
pub struct Reached(Option<(Place, NonNull<c_void>)>);

// SAFETY: an event belongs to no thread; it is recorded once, before anybody else sees it, and only waited for later.
unsafe impl Send for Reached {}

impl Reached {
    /// Behind all that this thread has asked of the device.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn here(device: Device) -> Result<Self> {
        Ok(Self(Place::of(device).map(Self::at).transpose()?))
    }

    fn at(place: Place) -> Result<(Place, NonNull<c_void>)> {
        let mut event = null_mut();
        // SAFETY: the pointer is valid for the call.
        checked(unsafe { sora_event_record(place.kind, place.index, &raw mut event) })?;
        Ok((place, NonNull::new(event).expect("made where nothing failed")))
    }

    /// Has what this thread asks of the device later wait for that point, and `used`, which was made before it, stay until
    /// that is done.
    ///
    /// # Errors
    /// What libtorch says.
    pub fn wait(&self, used: &Tensor) -> Result<()> {
        let Some((Place { kind, index }, event)) = self.0 else { return Ok(()) };
        // SAFETY: the event lives as long as this, and the tensor for the call.
        checked(unsafe { sora_event_wait(kind, index, event.as_ptr(), used.as_ptr() as *const c_void) })
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Some((_, event)) = self.0 {
            // SAFETY: made by `sora_event_record`, and not used any more.
            unsafe { sora_event_free(event.as_ptr()) }
        }
    }
}

/// Waits until all that this thread has asked of a device is done.
pub(crate) fn synchronize(device: Device) -> Result<()> {
    let Some(place) = Place::of(device) else { return Ok(()) };
    synchronize_at(place)
}

fn synchronize_at(Place { kind, index }: Place) -> Result<()> {
    // SAFETY: no pointers.
    checked(unsafe { sora_stream_synchronize(kind, index) })
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn sora_test_install_recording_device();
        fn sora_test_recorded() -> *const c_char;
    }

    /// The device of recording.cpp.
    const RECORDING: Place = Place { kind: 20, index: 0 };

    fn recorded() -> Vec<String> {
        // SAFETY: the text is copied before the next call.
        let text = unsafe { CStr::from_ptr(sora_test_recorded()) };
        text.to_str().expect("ASCII").lines().map(str::to_owned).collect()
    }

    fn point() -> Reached {
        Reached(Some(Reached::at(RECORDING).expect("recorded")))
    }

    #[test]
    fn a_thread_beside_waits_for_what_was_made_before_it_goes_on() {
        // SAFETY: no other test uses the device's number.
        unsafe { sora_test_install_recording_device() };
        let tensor = Tensor::zeros([4], (tch::Kind::Float, Device::Cpu));
        let made = point();
        assert_eq!(recorded(), ["event 1 behind 0"]);
        let beside = move || {
            let side = SideStream::enter_at(RECORDING).expect("a stream");
            made.wait(&tensor).expect("known");
            synchronize_at(RECORDING).expect("known");
            drop(side);
            synchronize_at(RECORDING).expect("known");
        };
        std::thread::spawn(beside).join().expect("no panic");
        let expected = [
            "1 waits for event 1",
            "memory is used by 1",
            "all of 1 is done",
            "all of 0 is done",
            "event 1 is freed",
        ];
        assert_eq!(recorded(), expected);
        // Where one thread's work goes is nothing to others.
        let _side = SideStream::enter_at(RECORDING).expect("a stream");
        std::thread::spawn(|| drop(point())).join().expect("no panic");
        assert_eq!(recorded(), ["event 2 behind 0", "event 2 is freed"]);
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let nowhere = Place { kind: 1, index: 0 };
        let error = SideStream::enter_at(nowhere).err().expect("no CUDA is loaded").to_string();
        assert!(error.contains("cuda"), "{error}");
        let error = Reached::at(nowhere).err().expect("no CUDA is loaded").to_string();
        assert!(error.contains("cuda"), "{error}");
    }

    #[test]
    fn on_the_cpu_there_is_nothing_to_wait_for() {
        assert!(SideStream::enter(Device::Cpu).expect("nothing fails").is_none());
        let tensor = Tensor::zeros([4], (tch::Kind::Float, Device::Cpu));
        Reached::here(Device::Cpu).and_then(|point| point.wait(&tensor)).expect("nothing fails");
        synchronize(Device::Cpu).expect("nothing fails");
    }
}
