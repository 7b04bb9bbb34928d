//! What the Linux kernel knows about a TCP connection. All unsafe code of the crate is here.

use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::path_watch::PathInfo;

/// Bytes written to the socket that the peer's kernel has not acknowledged, sent or not; our
/// FIN counts as one (`ioctl SIOCOUTQ`, tcp(7)).
pub(super) fn out_queue(socket: &impl AsFd) -> io::Result<Option<u64>> {
    let mut bytes: libc::c_int = 0;
    let fd = socket.as_fd().as_raw_fd();
    // `SIOCOUTQ` is defined as `TIOCOUTQ`.
    #[expect(unsafe_code, reason = "no safe crate offers SIOCOUTQ")]
    // SAFETY: `fd` is open as long as `socket` is borrowed, and this request writes one int
    // to the pointer, which is valid for it.
    let done = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).ok())
}

/// The state of the path (`getsockopt TCP_INFO`). Kernels before 5.4 do not tell the send
/// window.
pub(super) fn path_info(socket: &impl AsFd) -> io::Result<Option<PathInfo>> {
    let mut info = TcpInfo::default();
    let mut len = size_of::<TcpInfo>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no safe crate offers TCP_INFO with the send window")]
    // SAFETY: `fd` is open as long as `socket` is borrowed; `info` is valid for writes of
    // `len` bytes, consists of integers only, so that any bytes are a value, and is
    // initialised, so that a shorter answer leaves zeros.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast::<libc::c_void>(),
            &raw mut len,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    let len = len as usize;
    if len < offset_of!(TcpInfo, _pmtu_to_total_retrans) {
        return Ok(None);
    }
    Ok(Some(PathInfo {
        unacked: info.unacked,
        probes: info.probes,
        last_ack: Duration::from_millis(info.last_ack_recv.into()),
        send_window: (len >= size_of::<TcpInfo>()).then_some(info.snd_wnd),
    }))
}

/// `struct tcp_info` of `linux/tcp.h` up to `tcpi_snd_wnd`; fields of no interest are merged.
#[repr(C)]
#[derive(Default)]
struct TcpInfo {
    _state_to_retransmits: [u8; 3],
    probes: u8,
    _backoff_to_flags: [u8; 4],
    _rto_to_rcv_mss: [u32; 4],
    unacked: u32,
    _sacked_to_last_data_recv: [u32; 7],
    last_ack_recv: u32,
    _pmtu_to_total_retrans: [u32; 11],
    _pacing_rate_to_bytes_received: [u64; 4],
    _segs_out_to_data_segs_out: [u32; 6],
    _delivery_rate_to_sndbuf_limited: [u64; 4],
    _delivered: [u32; 2],
    _bytes_sent: [u64; 2],
    _dsack_dups_to_rcv_ooopack: [u32; 3],
    snd_wnd: u32,
}

// The offsets of the kernel's header, which are the same on every architecture.
const _: () = {
    assert!(offset_of!(TcpInfo, probes) == 3);
    assert!(offset_of!(TcpInfo, unacked) == 24);
    assert!(offset_of!(TcpInfo, last_ack_recv) == 56);
    assert!(offset_of!(TcpInfo, snd_wnd) == 228);
    assert!(size_of::<TcpInfo>() == 232);
};
