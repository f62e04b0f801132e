#!/usr/bin/env python3
"""Tests the tools of the host: the launcher, the log reader, the resolver and make-image.

A script takes the place of QEMU and of Bochs, so each of their endings takes no time. Every trouble
of a tool must end with its own status and one line that begins with the tool's name.
"""

import importlib.machinery
import importlib.util
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import struct
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("tests/boot", "tests/report", "ovmf")]
sys.dont_write_bytecode = True

import bochs  # noqa: E402
import log  # noqa: E402
import page as pages  # noqa: E402
import progress  # noqa: E402
import qemu  # noqa: E402
import tap  # noqa: E402

# Prints its arguments, one a line, and FAKE_WORDS; then ends with FAKE_STATUS, or sleeps.
FAKE_QEMU = """#!/bin/sh
printf '# argument %s\\n' "$@"
printf '%b' "$FAKE_WORDS"
[ -z "$FAKE_SECONDS" ] || exec sleep "$FAKE_SECONDS"
exit "$FAKE_STATUS"
"""
TMPFS = ["unshare", "--map-root-user", "--mount", "sh", "-c",
         'mount -t tmpfs -o size=$0 tmpfs "$1" && shift && exec "$@"']


class ToolCase(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory(prefix="faultline-tools-")
        self.addCleanup(self.scratch.cleanup)
        self.folder = Path(self.scratch.name)

    def file(self, name: str, text: str = "") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)

    def run_tool(self, *command, **settings):
        """Runs a program in the tree, with settings of the environment in capitals."""
        environment = dict(os.environ)
        for key in [key for key in settings if key.isupper()]:
            environment[key] = settings.pop(key)
        settings = {"stdout": subprocess.PIPE, **settings}
        return subprocess.run([str(item) for item in command], cwd=ROOT, env=environment, text=True,
                              stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60,
                              **settings)

    def refused(self, done, name: str, status: int, words: str = ""):
        """Checks for the status and one line of stderr, from the tool, with these words."""
        self.assertEqual(done.returncode, status, done.stderr)
        lines = done.stderr.splitlines()
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertTrue(lines[0].startswith(name + ": "), lines[0])
        self.assertIn(words, lines[0])

    def on_small_disk(self, size: str, *command, **settings):
        """Runs a command beside a tmpfs of this size at folder/small, or skips the test."""
        small = self.folder / "small"
        small.mkdir(exist_ok=True)
        if self.run_tool(*TMPFS, size, small, "true").returncode != 0:
            self.skipTest("this system mounts no tmpfs for a user namespace")
        return self.run_tool(*TMPFS, size, small, *command, **settings)


class Launcher(ToolCase):
    def setUp(self):
        super().setUp()
        self.efi = self.file("some.efi")
        self.fake = self.file("fake-qemu", FAKE_QEMU)
        os.chmod(self.fake, 0o755)

    def launch(self, *arguments, words="", status=33, **settings):
        settings = {"QEMU": self.fake, **settings}
        return self.run_tool("ovmf/qemu.py", "--efi", self.efi, *arguments, FAKE_WORDS=words,
                             FAKE_STATUS=str(status), **settings)

    def arguments(self, *arguments, **settings):
        """Returns the arguments with which QEMU is started."""
        done = self.launch(*arguments, **settings)
        self.assertEqual(done.returncode, 0, done.stderr)
        return re.findall(r"^# argument (.*)$", done.stdout, re.MULTILINE)

    def test_status_of_each_ending(self):
        for status, mine in ((33, 0), (35, 1), (37, 2), (39, 3)):
            self.assertEqual(self.launch(status=status).returncode, mine)
        for status in (0, 1, 2, 3, 4, 5, 134):
            self.refused(self.launch(status=status), "qemu.py", 5, f"status {status}")
        done = self.launch("--timeout", "0.3", FAKE_SECONDS="30")
        self.refused(done, "qemu.py", 4, "stopped after 0.3 s")

    def test_help_is_true(self):
        done = self.launch("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        text = " ".join(done.stdout.split())
        for verdict, status in qemu.STATUS_OF_VERDICT.items():
            word = "everything skipped" if verdict == "skipped" else verdict
            self.assertIn(f"{status} {word}", text)
        self.assertIn(f"{qemu.STATUS_TIMEOUT} out of time, {qemu.STATUS_BROKEN} no verdict", text)
        tried = {"--help"}
        disk = self.file("disk.img")
        for given, wanted in (
                (("--efi", self.efi), self.efi), (("--append", "run=cow"), "run=cow"),
                (("--image", disk), f'"filename": "{disk}"'),
                (("--image", disk, "--usb"), "usb-storage"), (("--swap", disk), "FAULTLINE-SWAP"),
                (("--machine", "pc"), "ich9-ahci"), (("--cpu", "qemu64"), "qemu64"),
                (("--memory", "77"), "77"), (("--smp", "3"), "3"), (("--serial", "pci"), "pci-serial"),
                (("--firmware", "4M"), "OVMF_CODE_4M.fd"), (("--icount",), "-icount"),
                (("--gdb", "tcp::1"), "tcp::1"), (("--", "-name", "hello"), "hello")):
            tried.update(word for word in given if word.startswith("--"))
            self.assertIn(wanted, "\n".join(self.arguments(*given)))
        for given, unwanted in (("--no-vga", "VGA"), ("--no-debug-exit", "isa-debug-exit")):
            tried.add(given)
            self.assertIn(unwanted, "\n".join(self.arguments()))
            self.assertNotIn(unwanted, "\n".join(self.arguments(given)))
        listed = set(re.findall(r"--[a-z-]+", done.stdout.split("options:")[1])) | {"--"}
        self.assertEqual(listed, tried | {"--timeout", "--log", "--summary"})

    RUN = ("KTAP version 1\\n# Faultline abc\\n# seed: 7\\n1..2\\n    KTAP version 1\\n    1..2\\n"
           "    # Does it hold?\\n    ok 1 a\\n    ok 2 b # SKIP no disk\\n    # answer: Yes, here; more.\\n"
           "ok 1 first\\n    KTAP version 1\\n    1..1\\n    # And this?\\n    not ok 1 a page is lost\\n"
           "not ok 2 second\\n# verdict: fail\\n")

    def summary(self, words: str, *arguments, **settings) -> str:
        log = str(self.folder / "run.log")
        done = self.launch("--summary", "--log", log, *arguments, words=words, **settings)
        self.assertNotRegex(done.stdout, r"[^ -~\n]")
        return done.stdout.replace(log, "run.log")

    def test_summary(self):
        out = self.summary(self.RUN, "--append", "run=a,b cpus=2 seed=7", status=35)
        for line in ("  ok      1/2 first            Yes, here", "  FAILED second", "    a page is lost",
                     "  not ok  2/2 second           1 of 1 checks failed",
                     '    again: make run OPTIONS="run=second seed=7 cpus=2"', "  log      run.log",
                     "  verdict  fail: 1 of 2 experiments passed; 1 checks hold, 1 failed, 1 not made here"):
            self.assertIn(line + "\n", out)
        line = int(re.search(r"run.log:(\d+)", out)[1])
        text = (self.folder / "run.log").read_text().splitlines()
        self.assertEqual(text[line - 1], "    not ok 1 a page is lost")
        self.assertLess(out.index("not ok  2/2"), out.index("FAILED second"))
        self.assertTrue(all(len(line) <= 80 for line in out.splitlines() if "verdict" not in line))
        self.refused(self.launch("--summary"), "qemu.py", 5, "needs --log")

    def test_summary_of_a_run_that_ends_early(self):
        out = self.summary(self.RUN.split("    not ok")[0] + "# crash on cpu 0: page fault\\n"
                           "Bail out! page fault\\n# verdict: crash\\n", status=37)
        for words in ("# crash on cpu 0: page fault\n", "CRASHED at run.log:", "it asked: And this?",
                      "verdict  crash: 1 of 2"):
            self.assertIn(words, out)

    def test_status_line_on_a_terminal(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        shown = progress.Progress(Terminal(), "", "run.log")
        shown.every_second()
        for line in self.RUN.replace("\\n", "\n").split("    not ok")[0].splitlines():
            shown.take(line)
        shown.every_second()
        shown.end("out of time")
        out = shown.out.getvalue()
        self.assertRegex(out, "\r\x1b\\[K  booting, about 8 s: 0 s\r\x1b\\[K  boot")
        self.assertIn("\r\x1b[K  2/2 And this?, check 1 of 1, 0 s", out)
        self.assertIn("it was asking: And this?", out)
        self.assertIn("verdict  out of time: 1 of 2", out)

    def test_environment(self):
        self.assertEqual(self.arguments(ACCEL="kvm")[:2], ["-accel", "kvm"])
        self.assertEqual(self.arguments(ACCEL="")[:2], ["-accel", "tcg"])
        self.refused(self.launch("--icount", ACCEL="kvm"), "qemu.py", 5, "--icount needs TCG")

    def test_bad_arguments(self):
        for given in (["--no-such"], ["stray"], ["--smp", "0"], ["--smp", "many"], ["--memory", "-1"],
                      ["--memory"], ["--timeout", "0"], ["--timeout", "nan"], ["--machine", "vax"],
                      ["--firmware", "3M"], ["--serial", "usb"], ["--efi", "/no/such"],
                      ["--efi", "/"], ["--image", "/no/such"], ["--swap", "/no/such"], ["--usb"],
                      ["--image", self.efi, "--append", "run=cow"], ["--log", "/no/such/log"],
                      ["--log", "/"]):
            with self.subTest(given=given):
                self.refused(self.launch(*given), "qemu.py", 5)

    def test_no_qemu(self):
        self.refused(self.launch(QEMU="/no/such"), "qemu.py", 5, "/no/such cannot be started")
        self.refused(self.launch(QEMU=self.file("plain")), "qemu.py", 5, "cannot be started")

    def test_no_firmware(self):
        done = self.run_tool(sys.executable, "-B", "-c", "import sys; sys.path.insert(0, 'ovmf'); "
                             "import qemu; qemu.FIRMWARE_DIRS = ('/no/such',); sys.exit(qemu.main())",
                             "--efi", self.efi)
        self.refused(done, "qemu.py", 5, "no 4M OVMF in /no/such")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            self.refused(self.launch(words="# hello\\n", stdout=full), "qemu.py", 5, "No space left")
        self.refused(self.launch("--log", "/dev/full"), "qemu.py", 5, "/dev/full: No space left")
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as closed:
            done = self.launch(words="# hello\\n", stdout=closed)
        self.refused(done, "qemu.py", 5, "the output was closed")
        done = self.run_tool("sh", "-c", f"ovmf/qemu.py --efi {self.efi} >&-", QEMU=self.fake)
        self.refused(done, "qemu.py", 5, "closed")

    def test_words_that_cannot_be_written(self):
        """A trouble has its own status also when nobody can be told."""
        for closing in ("2>/dev/full", "2>&-", "2</dev/null"):
            done = self.run_tool("sh", "-c", f"ovmf/qemu.py --efi {self.efi} --log /dev/full {closing}",
                                 QEMU=self.fake)
            self.assertEqual((done.returncode, done.stderr), (5, ""), closing)

    def test_letters_that_the_terminal_lacks(self):
        done = self.launch(words="# caf\\0351\\n", PYTHONIOENCODING="ascii")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("# caf\\xe9", done.stdout)

    def test_scratch_folder_on_a_full_disk(self):
        done = self.on_small_disk("100k", "ovmf/qemu.py", "--efi", self.efi, QEMU=self.fake,
                                  TMPDIR=str(self.folder / "small"))
        self.refused(done, "qemu.py", 5, "No space left")

    def test_log_is_what_came(self):
        path = self.folder / "log"
        words = "KTAP version 1\\r\\n# crash on cpu 0: x\\r\\nhalf a line"
        done = self.launch("--log", path, words=words)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(path.read_text().endswith("KTAP version 1\n# crash on cpu 0: x\nhalf a line"))

    def test_commas_in_paths(self):
        odd = self.folder / "a,b  c"
        odd.mkdir()
        given = self.arguments(TMPDIR=str(odd))
        drive = next(word for word in given if "unit=1" in word)
        self.assertIn("a,,b  c/faultline-", drive)


class BochsLauncher(ToolCase):
    def launch(self, *arguments, **settings):
        return self.run_tool(sys.executable, "ovmf/bochs.py", "--efi", self.file("some.efi"),
                             *arguments, **settings)

    def test_help_and_bad_arguments(self):
        done = self.launch("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for given in (["--no-such"], ["--smp", "3"], ["--memory", "4096"], ["--efi", "/no/such"],
                      ["--timeout", "x"], ["--log", "/no/such/log"]):
            with self.subTest(given=given):
                self.refused(self.launch(*given), "bochs.py", 5)

    def test_no_bochs(self):
        self.refused(self.launch(PATH="/no/such"), "bochs.py", 5, "bochs is not installed")

    def test_endings(self):
        """The verdict counts only if the machine switched itself off."""
        fake = self.folder / "bochs"
        fake.write_text("#!/bin/sh\nprintf '%b' \"$FAKE_SERIAL\" >serial.log\n"
                        "echo \"$FAKE_END\" >bochs.log\nexit 1\n")
        os.chmod(fake, 0o755)
        path = f"{self.folder}:{os.environ['PATH']}"
        off = "1p[ACPI  ] >>PANIC<< ACPI control: soft power off"
        if bochs.firmware() is None or not os.path.exists(bochs.VGA_ROM):
            self.skipTest("this system lacks the firmware for Bochs")
        for verdict, status in qemu.STATUS_OF_VERDICT.items():
            done = self.launch(PATH=path, FAKE_SERIAL=f"x\\n# verdict: {verdict}\\n", FAKE_END=off)
            self.assertEqual(done.returncode, status, done.stderr)
        for serial, end in (("# verdict: pass\\n", "3rd (triple) fault"), ("ok 1 cow\\n", off)):
            done = self.launch(PATH=path, FAKE_SERIAL=serial, FAKE_END=end)
            self.refused(done, "bochs.py", 5, "no verdict")


class LogReader(ToolCase):
    def test_help_and_bad_arguments(self):
        done = self.run_tool("tests/boot/log.py", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for words in ("FILE", "0 the verdict is pass", "1 it is another one", "2 the log is refused"):
            self.assertIn(words, " ".join(done.stdout.split()))
        for given in ("/no/such", "/", self.file("empty"), "/dev/null"):
            self.refused(self.run_tool("tests/boot/log.py", given), "log.py", 2)
        binary = self.folder / "binary"
        binary.write_bytes(bytes(range(256)))
        self.refused(self.run_tool("tests/boot/log.py", binary), "log.py", 2)
        done = self.run_tool("tests/boot/log.py", "--no-such")
        self.assertEqual(done.returncode, 2)
        self.assertNotIn("Traceback", done.stderr)


class ContinuousIntegration(ToolCase):
    """docs/ci.md: its files name paths and targets that exist, and its commands work on a log."""

    def workflow(self):
        text = (ROOT / "docs/ci.md").read_text()
        return text, re.search(r"^```yaml \S+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]

    def test_steps(self):
        """A bare system has the programs of each step, and every file of the artifact is made by a step."""
        text, workflow = self.workflow()
        steps = re.findall(r"^ +- run: (.*)$", workflow, re.MULTILINE)
        installed = re.search(r"apt-get install -y (.*)$", steps[0])[1].split()
        for step in steps[1:]:
            program = step.split()[0]
            self.assertTrue(program in installed or program == "python3" and "make run" in steps[:steps.index(step)],
                            f"{step}: {program} is not installed")
        (self.folder / "build").mkdir()
        for path in ("tests", "ovmf"):
            (self.folder / path).symlink_to(ROOT / path)
        for name in ("build/run.log", "build/report.log", "good.log"):
            self.file(name, Programs.PASSED)
        shown = [step for step in steps if step.startswith("python3 ")]
        shown += [command for command in re.findall(r"^\| .*?`([^`]+)`", text, re.MULTILINE) if "run.log" in command]
        self.assertEqual(len(shown), 4)
        for command in shown:
            done = subprocess.run(["sh", "-c", command], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=60)
            self.assertEqual(done.returncode, 0, command + done.stdout)
        makers = "".join(steps) + "".join(
            (ROOT / path).read_text() for path in ("Makefile", "tests/report/run", "tests/bench/run"))
        for path in re.findall(r"^ +(build/\S+)$", workflow, re.MULTILINE):
            self.assertIn(Path(path).name, makers)
        self.assertTrue(ElementTree.parse(self.folder / "build/run.xml").getroot().get("tests"))

    def test_files_of_the_page(self):
        text = (ROOT / "docs/ci.md").read_text()
        files = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        self.assertEqual(list(files), ["ci/Containerfile", ".github/workflows/faultline.yml"])
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        for name in re.findall(r"make ([a-z]+)", text):
            self.assertIn(name, targets)
        for path in re.findall(r"(?:python3 |COPY )(\S+)", "".join(files.values())):
            self.assertTrue((ROOT / path).exists(), path)
        for purpose in re.findall(r"/tmp/setup (\w+)", files["ci/Containerfile"]):
            self.assertIn(f'"{purpose}"' if '"' in purpose else purpose,
                          (ROOT / "ovmf/setup").read_text())
        for line in files["ci/Containerfile"].splitlines():
            self.assertRegex(line, r"^(FROM|COPY|RUN|WORKDIR|CMD) \S")
        for line in files[".github/workflows/faultline.yml"].splitlines():
            self.assertRegex(line, r"^ *(- )?([\w-]+: ?.*|build/\S+)$")


class SshServer:
    """Debian's sshd on a port of 127.0.0.1, with keys of its own. A login begins in the folder `home`."""

    LOGIN = """#!/bin/sh
cd {folder}/home && HOME=$PWD && export HOME && exec sh -c "$SSH_ORIGINAL_COMMAND"
"""
    CONFIG = """HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
StrictModes no
UsePAM no
LogLevel ERROR
AuthenticationMethods publickey
ForceCommand {folder}/login
SetEnv QEMU={qemu}
"""
    CLIENT = """IdentityFile {folder}/user
IdentitiesOnly yes
StrictHostKeyChecking yes
UserKnownHostsFile {folder}/known
"""
    NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync")
    PATH = os.environ["PATH"] + ":/usr/sbin"

    @classmethod
    def missing(cls) -> list:
        return [name for name in cls.NEEDED if not shutil.which(name, path=cls.PATH)]

    def __init__(self, folder: Path, qemu: str):
        self.folder = folder
        (folder / "home").mkdir(parents=True)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", folder / name], check=True)
        self.servers = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} " + (folder / "host.pub").read_text())
        for name, text in (("login", self.LOGIN), ("sshd_config", self.CONFIG), ("ssh_config", self.CLIENT)):
            (folder / name).write_text(text.format(folder=folder, qemu=qemu))
        (folder / "login").chmod(0o755)
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        """Gives each connection to an sshd of its own, which ends with it."""
        program = shutil.which("sshd", path=self.PATH)
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection, open(self.folder / "sshd.log", "ab") as words:
                self.servers.append(subprocess.Popen(
                    [program, "-i", "-e", "-f", self.folder / "sshd_config"], stdin=connection, stdout=connection,
                    stderr=words))

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for server in self.servers:
            server.wait(timeout=20)

    def login(self) -> str:
        """A line of a login file of GNU parallel."""
        return f"1/ssh -F {self.folder}/ssh_config -p {self.port} 127.0.0.1\n"


class Programs(ToolCase):
    """Output for programs: the log as JSON and JUnit, comparisons, and a sweep."""

    LOG = ("KTAP version 1\n# Faultline abc\n# seed: 7\n1..2\n    KTAP version 1\n    1..2\n"
           "    # Does it hold?\n    # metric first.pages=9 pages\n    # metric first.cost=1000 instructions\n"
           "    # metric first.time=5 ticks\n    ok 1 a < b\n    ok 2 b # SKIP no disk\n"
           "    # answer: 9 pages; more.\n    # from: pages\nok 1 first\n    KTAP version 1\n    1..1\n"
           "    not ok 1 a page is lost\nnot ok 2 second\n# failed: second: check 1: a page is lost\n"
           "# totals: experiments pass:1 fail:1 skip:0\n# totals: checks pass:1 fail:1 skip:1\n"
           "# verdict: fail\n")

    # The same without its second experiment.
    PASSED = LOG.split("    KTAP version 1\n    1..1")[0].replace("1..2\n", "1..1\n", 1) + (
        "# totals: experiments pass:1 fail:0 skip:0\n# totals: checks pass:1 fail:0 skip:1\n# verdict: pass\n")

    def test_output_that_is_closed(self):
        """A reader such as `head` ends a tool that prints, without a word of the tool's. A full disk
        ends it with a line and a status that no run has."""
        for command in (("tests/boot/log.py",), ("tests/boot/log.py", "--json"), ("tests/boot/log.py", "--junit"),
                        ("ovmf/resolve.py", "--image", "/bin/true"), ("tests/report/compare", self.file("old", self.LOG))):
            reader, writer = os.pipe()
            os.close(reader)
            with os.fdopen(writer, "w") as closed:
                done = self.run_tool(*command, self.file("log", self.LOG), stdout=closed)
            self.assertEqual((done.returncode, done.stderr), (-signal.SIGPIPE, ""), command)
            with open("/dev/full", "w") as full:
                done = self.run_tool(*command, self.file("log", self.LOG), stdout=full)
            self.refused(done, Path(command[0]).name, 2, "output: No space left on device")
        for command in (("tests/run", "--list"), (sys.executable, "tests/host/explore/pairs.py")):
            with open("/dev/full", "w") as full:
                self.refused(self.run_tool(*command, stdout=full),
                             "pairs.py" if command[-1].endswith("pairs.py") else "run", 2, "No space left")

    def test_json(self):
        done = self.run_tool("tests/boot/log.py", "--json", self.file("log", self.LOG))
        self.assertEqual(done.returncode, 1)
        read = json.loads(done.stdout)
        self.assertEqual(read["verdict"], "fail")
        self.assertEqual(read["figures"]["first.pages"], {"value": 9, "unit": "pages", "line": 8})
        first, second = read["experiments"]
        self.assertEqual((first["question"], first["answer"]["sources"]), ("Does it hold?", ["pages"]))
        self.assertEqual(second["checks"][0], {"text": "a page is lost", "ok": False, "skipped": None,
                                               "line": 18})

    def test_junit(self):
        done = self.run_tool("tests/boot/log.py", "--junit", self.file("log", self.LOG))
        root = ElementTree.fromstring(done.stdout.partition("\n")[2])
        self.assertEqual([root.get(name) for name in ("tests", "failures", "skipped")], ["3", "1", "1"])
        failure = root.find("testsuite[@name='second']/testcase/failure")
        self.assertEqual(failure.get("message"), "a page is lost")
        self.assertIn('line 18 of the log; to repeat: make run OPTIONS="run=second seed=7"', failure.text)
        self.assertEqual(root.find("testsuite/testcase/skipped").get("message"), "no disk")
        crash = self.file("crash", "KTAP version 1\n# seed: 9\n# experiment: cow, after 1 of 2 checks\n"
                          "Bail out! page fault\n# verdict: crash\n")
        done = self.run_tool("tests/boot/log.py", "--junit", crash)
        self.assertIn('message="page fault"', done.stdout)
        self.assertIn('make run OPTIONS="run=cow seed=9"', done.stdout)

    def compared(self, new: str, old: str = LOG):
        done = self.run_tool("tests/report/compare", self.file("old", old), self.file("new", new))
        return done.returncode, done.stdout

    def test_compare(self):
        self.assertEqual(self.compared(self.LOG)[0], 0)
        noise = self.LOG.replace("cost=1000", "cost=1001").replace("time=5", "time=500")
        self.assertEqual(self.compared(noise)[0], 0)
        status, out = self.compared(self.LOG.replace("cost=1000", "cost=1010"))
        self.assertEqual(status, 1)
        self.assertRegex(out, r"first\.cost +1,000 +1,010 instructions +\+1\.0 %")
        status, out = self.compared(self.LOG.replace("pages=9", "pages=10").replace("9 pages;", "10 pages;"))
        self.assertEqual(status, 1)
        self.assertIn("answer of first:\n  was: 9 pages; more.\n  now: 10 pages; more.", out)
        row = '{"op": "fork", "median": 100, "unit": "instructions"}\n'
        self.assertEqual(self.compared(row, row)[0], 0)
        self.assertEqual(self.compared(row.replace("100", "101"), row)[0], 1)
        self.assertEqual(self.run_tool("tests/report/compare", "/no/such", "/no/such").returncode, 2)
        for bad in ("{}\n", row + "[]\n", row.replace("100", '"x"'), row):
            done = self.run_tool("tests/report/compare", self.file("old", self.LOG), self.file("new", bad))
            self.assertEqual((done.returncode, done.stderr.count("\n")), (2, 1), done.stderr)

    def test_report_of_a_file_that_is_too_long(self):
        done = self.run_tool("tests/report/run", "--log", self.file("long", "x\n" * (5 << 20)))
        self.refused(done, "report", 2, "more than 8 MiB: no log of a run")
        self.refused(self.run_tool("tests/report/run", "--log", "/dev/zero"), "report", 2, "/dev/zero: more than")
        self.refused(self.run_tool("tests/report/run", "--log", "/no/such"), "report", 2, "/no/such: No such")

    def test_saved_by_windows(self):
        """A byte-order mark, UTF-16 and carriage returns, which editors and shells there write."""
        text = self.LOG.replace("\n", "\r\n")
        for data in (text.encode("utf-8-sig"), text.encode("utf-16"), b"\xfe\xff" + text.encode("utf-16-be")):
            path = self.folder / "saved"
            path.write_bytes(data)
            done = self.run_tool("tests/boot/log.py", path)
            self.assertEqual((done.returncode, done.stderr), (1, ""))
            done = self.run_tool("tests/report/compare", path, self.file("log", self.LOG))
            self.assertIn("0 of 2 figures changed", done.stdout)

    def test_two_runs_of_one_image(self):
        """What differs must be on a list of the log reader, which refuses it in answers."""
        loader = importlib.machinery.SourceFileLoader("report_run", str(ROOT / "tests/report/run"))
        run = importlib.util.module_from_spec(importlib.util.spec_from_loader("report_run", loader))
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        loader.exec_module(run)
        old = log.parse(self.LOG)
        self.assertEqual(run.unlisted(old, log.parse(self.LOG.replace("time=5", "time=6"))), [])
        self.assertEqual(run.unlisted(old, log.parse(self.LOG.replace("cost=1000", "cost=1001"))),
                         ["first.cost: 1,000 and 1,001"])
        self.assertEqual(run.unlisted(old, log.parse(self.LOG.replace("first.cost", "first.price"))),
                         ["first.cost: 1,000 and none"])

    def sweep_place(self, tree: str):
        """Returns a QEMU that passes, and writes a line to `runs` each time, and a tree with a sweep's files."""
        fake = self.file("fake-qemu", "#!/bin/sh\necho run in $PWD >>" + str(self.folder / "runs") + "\ncat <<'E'\n"
                         + self.PASSED + "E\nexit 33\n")
        os.chmod(fake, 0o755)
        work = self.folder / tree
        for path in ("ovmf", "tests/boot", "tests/report", "paging/kernel"):
            shutil.copytree(ROOT / path, work / path)
        (work / "build").mkdir()
        (work / "build/faultline.efi").write_text("")
        return fake, work

    def test_sweep_over_ssh(self):
        """A matrix on another host: this machine, by ssh, with another home. The host gets what a run needs,
        and the logs come back."""
        missing = SshServer.missing() + [name for name in ("parallel", "gnuplot") if not shutil.which(name)]
        if missing:
            self.skipTest(f"there is no {', no '.join(missing)}")
        fake, work = self.sweep_place("near/tree")
        server = SshServer(self.folder / "ssh", fake)
        self.addCleanup(server.close)
        command = ["tests/report/sweep", "--hosts", self.file("hosts", server.login()), "--figure", "first.pages",
                   "seed=1/2"]
        for runs in (2, 2):
            done = subprocess.run(command, cwd=work, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=120, env={**os.environ, "HOME": str(work.parent), "QEMU": "/no/such"})
            self.assertEqual(done.returncode, 0, done.stdout + (server.folder / "sshd.log").read_text())
            ran = (self.folder / "runs").read_text().splitlines()
            self.assertEqual(ran, [f"run in {server.folder}/home/tree"] * runs)
        self.assertEqual((work / "build/sweep/table.tsv").read_text(),
                         "seed\tverdict\tfirst.pages\n1\tpass\t9\n2\tpass\t9\n")
        self.assertIn("<svg", (work / "build/sweep/plot.svg").read_text())

    def test_sweep(self):
        """A matrix on this machine, named in a login file; what has its log is not run again."""
        if not shutil.which("parallel") or not shutil.which("gnuplot"):
            self.skipTest("there is no GNU parallel or gnuplot")
        fake, work = self.sweep_place("tree")
        hosts = self.file("hosts", "1/:\n")
        command = ["tests/report/sweep", "--hosts", hosts, "--figure", "first.pages", "seed=1/2/3",
                   "memory=64/128"]
        for _ in range(2):
            done = subprocess.run(command, cwd=work, text=True, stdout=subprocess.PIPE, timeout=120,
                                  stderr=subprocess.PIPE, env={**os.environ, "QEMU": fake})
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual((self.folder / "runs").read_text().count("run"), 6)
        rows = (work / "build/sweep/table.tsv").read_text().splitlines()
        self.assertEqual(rows[0], "seed\tmemory\tverdict\tfirst.pages")
        self.assertEqual(rows[-1], "3\t128\tpass\t9")
        self.assertIn("<svg", (work / "build/sweep/plot.svg").read_text())
        # Points whose names differ in a special letter only, a run with another clock, a wrong figure.
        for more, runs in ((["run=a*"], 7), (["run=a?"], 8), (["run=a*", "--plain"], 9),
                           (["run=a*", "--figure", "x.y"], 9)):
            done = subprocess.run([*command[:5], *more], cwd=work, text=True, stdout=subprocess.PIPE, timeout=120,
                                  stderr=subprocess.PIPE, env={**os.environ, "QEMU": fake})
            self.assertEqual((self.folder / "runs").read_text().count("run"), runs, more)
        self.assertEqual(done.returncode, 1)
        self.assertIn("sweep: no run has the figure x.y", done.stderr)
        # A plot's points are in the order of their numbers.
        subprocess.run([*command[:5], "memory=128/64/1024"], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=120, check=True, env={**os.environ, "QEMU": fake})
        self.assertEqual((work / "build/sweep/plot.data").read_text().split("\n")[:3],
                         ['64 9 "64"', '128 9 "128"', '1024 9 "1024"'])
        # An interruption ends it in one line; a run that was under way has no log.
        slow = self.file("slow-qemu", "#!/bin/sh\nexec sleep 60\n")
        os.chmod(slow, 0o755)
        # A shell's background job, which these tests may be in, ignores SIGINT, and so would its children.
        with subprocess.Popen([*command[:1], *command[3:5], "seed=4"], cwd=work, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, start_new_session=True, env={**os.environ, "QEMU": slow},
                              preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)) as sweep:
            self.assertIn("1 of 1 runs are left", sweep.stdout.readline())
            time.sleep(1)
            os.killpg(sweep.pid, signal.SIGINT)
            _, words = sweep.communicate(timeout=60)
        self.assertEqual(sweep.returncode, 130, words)
        self.assertNotIn("Traceback", words)
        self.assertIn("sweep: interrupted; the same command goes on", words)
        self.assertEqual([path for path in (work / "build/sweep").rglob("seed-4.log")], [])
        # Another image begins anew.
        (work / "build/faultline.efi").write_text("another")
        subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                       check=True, env={**os.environ, "QEMU": fake})
        self.assertEqual((self.folder / "runs").read_text().count("run"), 18)


class Hostile(ToolCase):
    """Files that are no logs, or damaged ones, end every reader with a status and a line."""

    READERS = (["tests/boot/log.py", "--junit"], ["tests/report/compare"],
               ["ovmf/resolve.py", "--image", "build/faultline.so"], ["tests/report/trace"])

    def files(self):
        log = Programs.LOG.encode()
        crash = b"KTAP version 1\n1..1\n    KTAP version 1\n    1..2\n# crash on cpu 0: \xe4\n" \
            b"# image at zz\n#   0: ffffffffffffffff a\nBail out! a\n# verdict: crash\n# ! # more\n"
        files = [b"", b"\xff" * 99, b"\0" * 70000, b"{", b'{"a":' * 100000, b"[]\n", log[:-30], crash,
                 crash.replace(b"Bail out! a", b"Bail out! \xe4"), log.replace(b"1..2", b"1.." + b"9" * 5000),
                 log.replace(b"ok 1", "ok \u00b2".encode()), log + b"# ! \xe4\n", log.replace(b"\n", b"\0")]
        return files

    def damaged(self):
        chance = random.Random(1)
        files = self.files()
        for _ in range(100):
            data = bytearray(chance.choice(files[6:9]))
            for _ in range(9):
                data[chance.randrange(len(data))] = chance.randrange(256)
            files.append(bytes(data))
        return files

    def test_readers(self):
        environment = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        for number, data in enumerate(self.files()):
            path = Path(self.file(f"hostile{number}"))
            path.write_bytes(data)
            for reader in self.READERS:
                again = [path] if "compare" in reader[0] else []
                done = self.run_tool(*reader, path, *again, **environment)
                with self.subTest(number=number, reader=reader):
                    self.assertNotIn("Traceback", done.stderr)
                    self.assertIn(done.returncode, (0, 1, 2))

    def test_shown_and_on_a_page(self):
        for data in self.damaged():
            text = data.decode("latin-1")
            shown = progress.Progress(io.StringIO(), "run=a", "run.log")
            for line in text.split("\n"):
                shown.take(qemu.readable(line))
            shown.end()
            pages.Page(text, {}, {}).html().encode()

    def test_endless(self):
        self.refused(self.run_tool("tests/boot/log.py", "/dev/zero"), "log.py", 2, "more than 64 MiB")
        done = self.run_tool("tests/report/compare", "/dev/zero", "/dev/zero")
        self.refused(done, "compare", 2, "more than 64 MiB")
        done = self.run_tool("ovmf/resolve.py", "--image", "/bin/true", "/dev/zero")
        self.assertEqual((done.returncode, done.stderr.count("Traceback")), (2, 0))
        self.assertIn("more than 64 MiB", done.stderr)

    def test_cut_inside_a_line(self):
        done = self.run_tool("tests/boot/log.py", self.file("cut", Programs.LOG[:200]))
        self.refused(done, "log.py", 2, "the log is cut off inside this line")


class Traces(ToolCase):
    """tests/report/trace takes what the experiment record-workloads prints, and refuses damage."""

    # Pages 0, 3, 1, 100: differences 0, 3, -2, 99 as zigzag 0, 6, 3, 198.
    DATA = bytes((0, 6, 3, 198, 1))
    LOG = "# references of loop: AAYDxgE=\n# references of loop end: 4, CRC-32C f4694af8\n"

    def make(self, text, ending=".csv", name="loop"):
        target = Path(self.file("trace")).with_suffix(ending)
        return target, self.run_tool("tests/report/trace", self.file("log", text), name, target)

    def test_formats(self):
        target, done = self.make(self.LOG)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(target.read_text(), "time,object,size\n0,0,4096\n1,3,4096\n2,1,4096\n3,100,4096\n")
        target, done = self.make(self.LOG.replace("AAYDxgE=", "AAYF").replace("f4694af8", "3c5ae654")
                                 .replace("4,", "3,"), ".oracleGeneral")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(list(struct.iter_unpack("<IQIq", target.read_bytes())),
                         [(0, 0, 4096, 3), (1, 3, 4096, -1), (2, 0, 4096, -1)])

    def test_list(self):
        done = self.run_tool("tests/report/trace", self.file("log", self.LOG))
        self.assertEqual((done.returncode, done.stdout), (0, "loop: 4 references\n"))

    def test_refusals(self):
        for text, words in ((self.LOG.replace("AAYD", "AAYC"), "loop: the check value is wrong"),
                            (self.LOG.replace("AAYD", "AA?D"), "loop: "),
                            (self.LOG.replace("4,", "5,"), "loop: 4 references in place of 5"),
                            (self.LOG.split("\n")[0], "loop: the last line is missing"),
                            ("", "no references of loop")):
            self.refused(self.make(text)[1], "trace", 2, words)
        done = self.run_tool("tests/report/trace", self.file("log", self.LOG), "loop", self.file("x.txt"))
        self.assertEqual(done.returncode, 2)
        self.assertIn("FILE ends in", done.stderr)


class Resolver(ToolCase):
    LOG = ("# Faultline {version}\n# crash on cpu 0: x\n# image at 0000000000100000\n"
           "# at {at:016x} faulty+0x0\n# backtrace:\n#   0: {at:016x} faulty+0x0\n"
           "#   1: {back:016x} main+0x9\n")

    def setUp(self):
        super().setUp()
        source = self.file("tiny.c", "int faulty(int x)\n{\n    return x + 1;\n}\n")
        self.image = self.folder / "tiny.so"
        self.run_tool("gcc", "-g", "-shared", "-fPIC", "-o", self.image, source)
        symbols = self.run_tool("nm", self.image).stdout
        self.at = 0x100000 + int(re.search(r"^(\w+) T faulty$", symbols, re.MULTILINE)[1], 16)
        self.file("version.h", '#define FAULTLINE_VERSION "mine"\n')

    def resolve(self, version, **settings):
        log = self.file("log", self.LOG.format(version=version, at=self.at, back=self.at + 1))
        done = self.run_tool(sys.executable, "ovmf/resolve.py", "--image", self.image, log,
                             **settings)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout, Path(log).read_text()

    def test_places(self):
        shown, _ = self.resolve("mine")
        self.assertEqual(shown.count("tiny.c:2)"), 3, shown)

    def test_log_of_another_build(self):
        shown, log = self.resolve("another")
        self.assertEqual(shown, log)

    def test_without_addr2line(self):
        shown, log = self.resolve("mine", PATH="/no/such")
        self.assertEqual(shown, log)


class MakeRecipes(ToolCase):
    def test_programs_have_their_name_when_they_are_whole(self):
        """A tool that writes a target in place would leave half of it when it is killed."""
        folder = self.folder / "build"
        folder.mkdir()
        done = self.run_tool("make", "--dry-run", f"B={folder}", "all", "everything")
        self.assertEqual(done.returncode, 0, done.stderr)
        commands = done.stdout.replace("\\\n", " ").splitlines()
        made = [re.search(r" -o (\S+)", line)[1] for line in commands
                if " -o " in line and not re.search(r" -c |bochs-loader\.so|symbols\.o", line)]
        self.assertGreater(len(made), 100)
        self.assertEqual([name for name in made if not name.endswith(".part")], [])
        renamed = {line.split()[1] for line in commands if line.startswith("mv ")}
        self.assertEqual([name for name in made if name not in renamed], [])


class MakeImage(ToolCase):
    def refused_image(self, done, words):
        self.refused(done, "make-image", 1, words)
        self.assertEqual(list(self.folder.glob("*.part")), [])
        self.assertFalse((self.folder / "image").exists())

    def test_bad_arguments(self):
        application = self.file("application", "x" * 300000)
        image = self.folder / "image"
        self.refused_image(self.run_tool("ovmf/make-image"), "usage")
        self.refused_image(self.run_tool("ovmf/make-image", "/no/such", image), "no such file")
        done = self.run_tool("ovmf/make-image", application, "/no/such/image")
        self.refused_image(done, "/no/such: no such folder")
        done = self.run_tool("ovmf/make-image", application, image, TMPDIR="/no/such")
        self.refused_image(done, "scratch folder")

    def test_application_that_is_too_large(self):
        application = self.file("application")
        os.truncate(application, 100 << 20)
        done = self.run_tool("ovmf/make-image", application, self.folder / "image")
        self.assertEqual(done.returncode, 1)
        self.assertFalse((self.folder / "image").exists())

    def test_full_disk(self):
        application = self.file("application", "x" * 300000)
        small = self.folder / "small"
        done = self.on_small_disk("200k", "ovmf/make-image", application, self.folder / "image",
                                  TMPDIR=str(small))
        self.refused_image(done, "disk full")
        # The command looks at the folder while it is mounted.
        done = self.on_small_disk("200k", "sh", "-c", 'ovmf/make-image "$0" "$1/image"; '
                                  'echo "status $?"; ls -A "$1"', application, small)
        self.assertEqual(done.stdout, "status 1\n")
        self.assertEqual(done.stderr, "make-image: disk full; no image was made\n")


class Mutants(ToolCase):
    def choose(self, changed, commit):
        loader = importlib.machinery.SourceFileLoader("mutants_run", str(ROOT / "tests/mutants/run"))
        module = importlib.util.module_from_spec(
            importlib.util.spec_from_loader("mutants_run", loader))
        loader.exec_module(module)
        patches = sorted((ROOT / "tests/mutants").glob("*.patch"))
        return module, patches, module.choose(patches, changed, commit)

    def test_changed_files_and_a_sample(self):
        module, patches, chosen = self.choose([], "commit 1")
        self.assertEqual(len(chosen), module.SAMPLE)
        self.assertEqual(chosen, module.choose(patches, [], "commit 1"))
        self.assertNotEqual(chosen, module.choose(patches, [], "commit 2"))
        for patch in patches:
            files = module.touched_files(patch)
            self.assertTrue(all((ROOT / file).exists() for file in files), files)
            for file in files:
                self.assertIn(patch, module.choose(patches, [file], "commit 1"))

    def test_every_mutant_has_its_turn(self):
        module, patches, chosen = self.choose([], "first")
        drawn = set(chosen)
        for number in range(len(patches)):
            drawn.update(module.choose(patches, [], str(number)))
        self.assertEqual(drawn, set(patches))

    def test_all_without_ci(self):
        done = self.run_tool("tests/mutants/run", "--list")
        self.assertEqual(len(done.stdout.split()), len(list((ROOT / "tests/mutants").glob("*.patch"))))
        done = self.run_tool("tests/mutants/run", "--ci", "--list")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertGreater(len(done.stdout.split()), 5)


class Runners(ToolCase):
    def test_bad_arguments(self):
        for given in (["tests/run"], ["tests/run", "no-such-test"], ["tests/run", "--needs", "none"],
                      ["tests/run", "--fuzz", "gpt", "soon"], ["tests/run", "--fuzz", "none", "3"],
                      ["tests/soak", "--rounds", "x"], ["tests/mutants/run", "no-such-mutant"],
                      ["ovmf/resolve.py"], ["ovmf/resolve.py", "/no/such"],
                      ["ovmf/setup"], ["ovmf/setup", "no-such"], ["ovmf/screenshot", "--size", "0x0"],
                      ["ovmf/screenshot", "--size", "wide"], ["ovmf/screenshot", "--at", "soon"],
                      ["tests/report/picture", "a.jpg"], ["tests/report/picture", "--no-such"]):
            with self.subTest(given=given):
                done = self.run_tool(*given)
                self.assertNotEqual(done.returncode, 0)
                self.assertNotIn("Traceback", done.stderr)
                self.assertNotEqual(done.stderr.strip(), "")

    def test_help(self):
        """--help goes to standard output, does nothing else, and ends well."""
        for tool in ("tests/run", "tests/report/run", "tests/report/compare", "tests/report/sweep", "tests/report/picture",
                     "tests/report/policies", "tests/check/run", "tests/check/figures", "tests/bench/run",
                     "tests/mutants/run", "tests/soak", "ovmf/screenshot", "ovmf/debug", "ovmf/make-image", "ovmf/resolve.py"):
            with self.subTest(tool=tool):
                done = self.run_tool(tool, "--help")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertIn(tool.rpartition("/")[2], done.stdout)


if __name__ == "__main__":
    sys.exit(tap.run_unittests(sys.modules["__main__"]))
