"""Runs a program under a seccomp filter.

    confined.py profile PROFILE.json PROGRAM ARGUMENT...     an OCI profile, as an engine applies it to
                                                             a process without capabilities
    confined.py allow NAME,NAME,... PROGRAM ARGUMENT...      just these calls
"""

import json
import os
import platform
import sys

import seccomp

COMPARE = {
    "SCMP_CMP_NE": seccomp.NE,
    "SCMP_CMP_LT": seccomp.LT,
    "SCMP_CMP_LE": seccomp.LE,
    "SCMP_CMP_EQ": seccomp.EQ,
    "SCMP_CMP_GE": seccomp.GE,
    "SCMP_CMP_GT": seccomp.GT,
    "SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ,
}
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


def known(name):
    # A name may be newer than the library, or of another architecture.
    try:
        return seccomp.resolve_syscall(seccomp.Arch(), name) >= 0
    except ValueError:
        return False


def applies(rule):
    """Whether the rule concerns this architecture, this kernel, and a process without capabilities."""
    includes, excludes = rule.get("includes", {}), rule.get("excludes", {})
    if includes.get("caps") or ("arches" in includes and ARCH not in includes["arches"]):
        return False
    return ARCH not in excludes.get("arches", [])


def argument(given):
    how, value, second = COMPARE[given["op"]], given["value"], given.get("valueTwo", 0)
    if how == seccomp.MASKED_EQ:
        return seccomp.Arg(given["index"], how, value, second)
    return seccomp.Arg(given["index"], how, value)


def of_profile(path):
    with open(path) as file:
        profile = json.load(file)
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    filter = seccomp.SyscallFilter(seccomp.ERRNO(profile["defaultErrnoRet"]))
    for rule in (rule for rule in profile["syscalls"] if applies(rule)):
        allow = rule["action"] == "SCMP_ACT_ALLOW"
        action = seccomp.ALLOW if allow else seccomp.ERRNO(rule["errnoRet"])
        for name in rule["names"]:
            if known(name):
                filter.add_rule(action, name, *map(argument, rule.get("args", [])))
    return filter


def of_names(names):
    filter = seccomp.SyscallFilter(seccomp.ERRNO(1))
    for name in names.split(","):
        if known(name):
            filter.add_rule(seccomp.ALLOW, name)
    return filter


how, what, program, *arguments = sys.argv[1:]
confined = {"profile": of_profile, "allow": of_names}[how](what)
confined.load()
os.execv(program, [program, *arguments])
