"""Keeps what ptxas -v says of each CUDA object, and fails if a kernel spills, uses a stack or has its wgmma serialised.

As CMake's CUDA_COMPILER_LAUNCHER:  resource_report.py tee nvcc ... -o OBJECT ...   writes OBJECT.ptxas, and fails at
                                    once where ptxas gives a kernel's design up (it does so in a note, not an error)
As a test, which needs no GPU:      resource_report.py check FOLDER ARCHITECTURE... reads every *.ptxas below
Of itself:                          resource_report.py self-test
"""

import contextlib
import io
import pathlib
import re
import subprocess
import sys

COMPILING = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'")
FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers.*?(?:, (\d+) bytes smem)?(?:,|$)")
# "(C7510) ... wgmma.mma_async instructions are serialized due to ...", "(C7508) ... 'setmaxnreg' ignored ...".
GIVEN_UP = re.compile(r"wgmma.*serializ|setmaxnreg\W+ignored", re.IGNORECASE)


def kernels(text):
    """One dict a kernel and architecture: name, arch, stack, spills, registers."""
    found = []
    for line in text.splitlines():
        if match := COMPILING.search(line):
            found.append({"name": match[1], "arch": match[2], "stack": None, "spills": None, "registers": None})
        elif not found:
            continue
        elif (match := FRAME.search(line)) and found[-1]["stack"] is None:
            found[-1]["stack"], found[-1]["spills"] = int(match[1]), int(match[2]) + int(match[3])
        elif (match := USED.search(line)) and found[-1]["registers"] is None:
            found[-1]["registers"] = int(match[1])
    return found


def given_up(text):
    """The notes in which ptxas says that it drops what makes a kernel fast."""
    return [f"ptxas gave up: {line.strip()}" for line in text.splitlines() if GIVEN_UP.search(line)]


def complaints(text, architectures):
    """What is wrong with one object's report, as sentences."""
    found = kernels(text)
    wrong = [f"no kernel was compiled for {arch}" for arch in architectures if arch not in {k["arch"] for k in found}]
    for kernel in found:
        place = f"{kernel['name']} for {kernel['arch']}"
        if None in (kernel["stack"], kernel["registers"]):
            wrong.append(f"{place}: the report is not complete")
        elif kernel["spills"] or kernel["stack"]:
            wrong.append(f"{place}: {kernel['spills']} bytes of spills, {kernel['stack']} of stack, wanted 0 and 0")
    return wrong + given_up(text)


def tee(command):
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    # ptxas speaks on nvcc's stderr; what it says besides the report is for the reader of the build.
    loud = [line for line in result.stderr.splitlines() if not re.match(r"ptxas info|\s+\d+ bytes stack frame", line)]
    if loud:
        print("\n".join(loud), file=sys.stderr)
    if result.returncode == 0 and "-o" in command and "ptxas info" in result.stderr:
        pathlib.Path(command[command.index("-o") + 1] + ".ptxas").write_text(result.stderr)
    for sentence in given_up(result.stderr):
        print(sentence, file=sys.stderr)
    return result.returncode or bool(given_up(result.stderr))


def check(folder, architectures):
    reports = sorted(pathlib.Path(folder).rglob("*.ptxas"))
    if not reports:
        print(f"no *.ptxas below {folder}: wanted one beside every CUDA object")
        return 1
    failed = 0
    for report in reports:
        text = report.read_text()
        for kernel in kernels(text):
            source = str(report.relative_to(folder)).partition(".")[0]
            print(f"{source:24} {kernel['arch']:7} {kernel['registers']} registers  {kernel['name']}")
        for sentence in complaints(text, architectures):
            print(f"{report.name}: {sentence}")
            failed = 1
    return failed


def self_test():
    report = (
        "ptxas info    : Compiling entry function '_Z1k' for 'sm_80'\n"
        "ptxas info    : Function properties for _Z1k\n"
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
        "ptxas info    : Used 64 registers, used 1 barriers, 8192 bytes smem, 400 bytes cmem[0]\n"
    )
    assert complaints(report, ["sm_80"]) == [], complaints(report, ["sm_80"])
    assert kernels(report)[0]["registers"] == 64
    assert complaints(report, ["sm_80", "sm_90a"]) == ["no kernel was compiled for sm_90a"]
    for good, bad in [
        ("0 bytes stack frame", "8 bytes stack frame"),
        ("0 bytes spill stores", "4 bytes spill stores"),
        ("0 bytes spill loads", "4 bytes spill loads"),
        ("Used 64 registers", ""),
    ]:
        assert len(complaints(report.replace(good, bad), ["sm_80"])) == 1, bad
    notes = [
        "(C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to ...",
        "(C7508) Potential Performance Loss: 'setmaxnreg' ignored; unable to determine register count at entry.",
    ]
    for note in notes:
        assert len(complaints(report + "ptxas info    : " + note, [])) == 1, note
        speaks = [sys.executable, "-c", "import sys; sys.stderr.write(sys.argv[1])", note]
        with contextlib.redirect_stderr(io.StringIO()):
            assert tee(speaks) == 1 and tee(speaks[:3] + ["a harmless note"]) == 0, note


if __name__ == "__main__":
    if sys.argv[1:2] == ["tee"]:
        sys.exit(tee(sys.argv[2:]))
    if sys.argv[1:2] == ["check"] and len(sys.argv) > 2:
        sys.exit(check(sys.argv[2], sys.argv[3:]))
    if sys.argv[1:] == ["self-test"]:
        sys.exit(self_test())
    sys.exit(__doc__)
