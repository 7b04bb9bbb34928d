//! What the Linux kernel knows about a TCP connection, and what it can do for datagrams. All
//! unsafe code of the crate is here.

use std::io;
use std::mem::{offset_of, size_of, size_of_val, zeroed};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::path_watch::PathInfo;
use super::udp::Bounce;

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

/// Datagrams of one [`send_many`] at most.
pub(super) const BATCH: usize = 64;
/// Octets that one segmented send takes at most: what fits a datagram over IPv4.
const SEGMENTED: usize = 65_507;

/// Sends datagrams over a connected socket with one call (`sendmmsg`), at most [`BATCH`] of
/// them. Returns how many were taken, at least one.
///
/// Datagrams of at most `segment` octets that follow one another in the same size, and a shorter
/// one behind them, pass through the system as one and are parted at its end (`UDP_SEGMENT`),
/// which costs a fraction. `segment` is what [`largest_segment`] says, or 0 for none.
///
/// The call says an error only where it took nothing: one that comes up in the middle is lost,
/// and with it the news of an earlier refusal. Only a socket with an error queue
/// ([`keep_errors`]) still tells it.
pub(super) fn send_many(
    socket: &impl AsFd,
    datagrams: &[&[u8]],
    segment: usize,
) -> io::Result<usize> {
    const NO_PART: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let datagrams = &datagrams[..datagrams.len().min(BATCH)];
    let mut parts = [NO_PART; BATCH];
    for (datagram, part) in datagrams.iter().zip(&mut parts) {
        part.iov_base = datagram.as_ptr().cast_mut().cast();
        part.iov_len = datagram.len();
    }
    // Words, so that the headers in it are aligned.
    let mut controls = [[0_u64; SEGMENT_CONTROL / 8]; BATCH];
    #[expect(unsafe_code, reason = "the type has padding that only zeroing fills")]
    // SAFETY: integers and pointers, of which zero is a value.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    let mut ends = [0; BATCH];
    let (mut start, mut count) = (0, 0);
    while start < datagrams.len() {
        let together = run(&datagrams[start..], segment);
        let header = &mut messages[count].msg_hdr;
        header.msg_iov = &raw mut parts[start];
        header.msg_iovlen = together as _;
        if together > 1 {
            let control = &mut controls[count];
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = SEGMENT_CONTROL as _;
            put_segment(header, datagrams[start].len() as u16);
        }
        start += together;
        ends[count] = start;
        count += 1;
    }
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no safe crate of ours offers sendmmsg")]
    // SAFETY: `fd` is open as long as `socket` is borrowed. The first `count` messages name
    // ranges of `parts` that are within it, whose parts name bytes that `datagrams` borrows and
    // that are only read, and arrays in `controls`; the call writes to `messages` alone.
    let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count as libc::c_uint, 0) };
    let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
    Ok(sent.checked_sub(1).map_or(0, |last| ends[last]))
}

/// The largest datagram that may be sent together with others on a connected socket: what a
/// packet of its path takes, 0 where the kernel does not part datagrams (before Linux 4.18).
/// Such a kernel would take several for one, so that this has to be asked.
pub(super) fn largest_segment(socket: &impl AsFd, v6: bool) -> usize {
    let (level, name, headers) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU, 48)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU, 28)
    };
    if int_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT).is_none() {
        return 0;
    }
    let mtu = int_option(socket, level, name).and_then(|mtu| usize::try_from(mtu).ok());
    mtu.map_or(0, |mtu| mtu.saturating_sub(headers))
}

/// Octets of the control message with a segment's size (`CMSG_SPACE`), checked below.
const SEGMENT_CONTROL: usize = 24;

/// How many of the first datagrams can go as one.
fn run(datagrams: &[&[u8]], segment: usize) -> usize {
    let size = datagrams[0].len();
    if size == 0 || size > segment.min(SEGMENTED / 2) {
        return 1;
    }
    let most = SEGMENTED / size;
    let same = datagrams.iter().take(most).take_while(|next| next.len() == size).count();
    let shorter = datagrams.get(same).is_some_and(|next| (1..size).contains(&next.len()));
    if shorter && same < most { same + 1 } else { same }
}

/// Writes the size of segments into the control message of a header.
fn put_segment(header: &mut libc::msghdr, size: u16) {
    #[expect(unsafe_code, reason = "control messages are written by macros of the system")]
    // SAFETY: the header names `SEGMENT_CONTROL` bytes of control data, aligned and valid for
    // writes, which is room for one message with a u16: see the assertion below.
    unsafe {
        assert!(libc::CMSG_SPACE(size_of::<u16>() as u32) as usize <= SEGMENT_CONTROL);
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_UDP;
        (*first).cmsg_type = libc::UDP_SEGMENT;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
        libc::CMSG_DATA(first).cast::<u16>().write_unaligned(size);
    }
}

/// An option of a socket that is one int; none where it is not known.
fn int_option(socket: &impl AsFd, level: libc::c_int, name: libc::c_int) -> Option<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no safe crate of ours offers these options")]
    // SAFETY: `fd` is open as long as `socket` is borrowed; `value` is valid for writes of `len`
    // bytes.
    let done = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &raw mut len) };
    (done == 0).then_some(value)
}

/// Lets the kernel keep what the network answers to datagrams (`IP_RECVERR`,
/// `IPV6_RECVERR`): every answer, and also those that it would not tell otherwise, such as
/// that a host cannot be reached. Returns whether it does.
pub(super) fn keep_errors(socket: &impl AsFd, v6: bool) -> bool {
    let (level, name) = if v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    } else {
        (libc::IPPROTO_IP, libc::IP_RECVERR)
    };
    let on: libc::c_int = 1;
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no safe crate of ours offers IP_RECVERR")]
    // SAFETY: `fd` is open as long as `socket` is borrowed, and the option is one int, which
    // `on` is.
    let done = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    done == 0
}

/// Takes the oldest answer out of the error queue (`recvmsg MSG_ERRQUEUE`); none when it is
/// empty.
pub(super) fn next_bounce(socket: &impl AsFd) -> io::Result<Option<Bounce>> {
    // Words, so that the headers in it are aligned; one answer with an address takes 10.
    let mut control = [0_u64; 64];
    #[expect(unsafe_code, reason = "the type has padding that only zeroing fills")]
    // SAFETY: integers and pointers, of which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    let fd = socket.as_fd().as_raw_fd();
    #[expect(unsafe_code, reason = "no safe crate of ours reads an error queue")]
    // SAFETY: `fd` is open as long as `socket` is borrowed. The call writes to `message`, and
    // at most `msg_controllen` bytes to `control`; there is no other part to write to.
    let got =
        unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) };
    if got < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    #[expect(unsafe_code, reason = "control messages are walked by macros of the system")]
    // SAFETY: `message` is as the call left it, and its `control` still lives. Each header that
    // the macros give lies in it, is aligned, and its length is checked before its data is read,
    // without regard to alignment.
    let bounce = unsafe {
        let mut found = None;
        let mut at = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(header) = at.as_ref() {
            let kind = (header.cmsg_level, header.cmsg_type);
            let answers =
                [(libc::IPPROTO_IP, libc::IP_RECVERR), (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)];
            let least = libc::CMSG_LEN(size_of::<libc::sock_extended_err>() as u32) as _;
            if answers.contains(&kind) && header.cmsg_len >= least {
                let data = libc::CMSG_DATA(at).cast::<libc::sock_extended_err>();
                found = Some(data.read_unaligned());
                break;
            }
            at = libc::CMSG_NXTHDR(&raw const message, at);
        }
        found
    };
    // An answer without its reason is still one.
    let errno = bounce.map_or(libc::ECONNREFUSED, |answer| answer.ee_errno as i32);
    let mtu = bounce.filter(|_| errno == libc::EMSGSIZE).map(|answer| answer.ee_info);
    let local = bounce.is_some_and(|answer| answer.ee_origin == libc::SO_EE_ORIGIN_LOCAL);
    Ok(Some(Bounce { errno, mtu, local }))
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
