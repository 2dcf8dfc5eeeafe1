"""The system calls that a sandbox refuses, as a filter that the kernel itself runs (seccomp, classic BPF).

What is refused is what the other walls of the sandbox do not hold: another process (each would have a memory limit of
its own), memory that counts in no address space, sockets other than those between a process and itself (a VM's
``AF_VSOCK`` leads out of every network namespace), and doors into the kernel that a program that computes has no use
for. See `seccomp(2) <https://man7.org/linux/man-pages/man2/seccomp.2.html>`_.
"""

from __future__ import annotations

import errno
import struct

__all__ = ["MACHINES", "seccomp_filter"]

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Machines whose system calls are known, with what the kernel calls their architecture (``AUDIT_ARCH_…``)."""

_REFUSED = {  # name: number on x86_64, on aarch64 (None: there is no such call)
    "fork": (57, None), "vfork": (58, None),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440), "kcmp": (312, 272),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_setup": (206, 0), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "syslog": (103, 116),
    "personality": (135, 92), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "fanotify_init": (300, 262), "quotactl": (179, 60),
    "kexec_load": (246, 104), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
}  # fmt: skip
_CLONE, _CLONE3, _SOCKET, _SOCKETPAIR = (56, 220), (435, 435), (41, 198), (53, 199)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|…|K, BPF_RET|K
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; both machines are little-endian
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_X32 = 0x40000000  # x86_64 answers the same calls under a second set of numbers
_CLONE_THREAD, _AF_UNIX = 0x00010000, 1


def seccomp_filter(machine: str) -> bytes:
    """Gives the filter for a machine, as ``bwrap --seccomp`` reads it: instructions of 8 bytes.

    Args:
        machine: One of `MACHINES`, as ``platform.machine()`` calls it.

    Raises:
        KeyError: The machine's system calls are not known.

    >>> len(seccomp_filter("x86_64")) % 8
    0
    """
    column = list(MACHINES).index(machine) if machine in MACHINES else -1
    program = [_step(_LOAD, _ARCHITECTURE), _step(_EQUAL, MACHINES[machine], 1, 0), _step(_RETURN, _KILL)]
    program += [_step(_LOAD, _NUMBER)]
    program += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _FAIL | errno.EPERM)]
    # The C library takes this for an old kernel, and asks for `clone`, whose flags can be looked at.
    program += [_step(_EQUAL, _CLONE3[column], 0, 1), _step(_RETURN, _FAIL | errno.ENOSYS)]
    program += _only(_CLONE[column], _ANY_BIT, _CLONE_THREAD)
    program += _only(_SOCKET[column], _EQUAL, _AF_UNIX) + _only(_SOCKETPAIR[column], _EQUAL, _AF_UNIX)
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            program += [_step(_EQUAL, number, 0, 1), _step(_RETURN, _FAIL | errno.EPERM)]
    return b"".join([*program, _step(_RETURN, _ALLOW)])


def _only(number: int, test: int, value: int) -> list[bytes]:
    """Allows a call where its first argument passes a test, and else refuses it."""
    return [
        _step(_EQUAL, number, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(test, value, 0, 1),
        _step(_RETURN, _ALLOW),
        _step(_RETURN, _FAIL | errno.EPERM),
    ]


def _step(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, true, false, value)
