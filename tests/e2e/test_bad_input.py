#!/usr/bin/env python3
"""Model directories that are broken, and settings that are wrong: the programs say which file and key, what was there and
what was expected, end with 1, and neither hang nor print a backtrace."""
import json
import os
import pathlib
import re
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import unittest

from cluster import BATON, BUILD, DEMO, Cluster

WAIT_S = 60


def limit_memory():
    """Hostile sizes must not be believed: 4 GiB of address space is plenty for the demo model."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))


class BadInput(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="baton-bad-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def refused(self, arguments, *words, code=1):
        sanitized = "asan" in str(BUILD) or "tsan" in str(BUILD)
        result = subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=WAIT_S,
                                stdin=subprocess.DEVNULL, preexec_fn=None if sanitized else limit_memory)
        last = (result.stderr.strip().splitlines() or [""])[-1]
        self.assertEqual(result.returncode, code, f"{arguments}: {result.stderr[-500:]}")
        for word in words:
            self.assertIn(word, last, arguments)

    def model(self):
        """A copy of the demo model to break; small files are copied, the weights linked."""
        path = self.folder / "model"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        for file in DEMO.iterdir():
            (os.link if file.suffix == ".safetensors" and self.same_device(file) else shutil.copy)(file, path / file.name)
        return path

    def same_device(self, file):
        return file.stat().st_dev == self.folder.stat().st_dev

    def refuse_model(self, path, *words):
        self.refused([BATON, "solo", "--model", path, "--prompt", "a", "--max-tokens", "1"], *words)

    # ---- files

    def test_files_that_are_missing_cut_or_no_files(self):
        self.refuse_model(self.folder / "nowhere", "nowhere")
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            path = self.model()
            data = (path / name).read_bytes()
            (path / name).unlink()
            self.refuse_model(path, name)
            (path / name).write_bytes(data[:len(data) // 2])
            self.refuse_model(path, name)
            (path / name).write_bytes(b"")
            self.refuse_model(path, name)
            (path / name).unlink()
            (path / name).mkdir()
            self.refuse_model(path, name)
            (path / name).rmdir()
            os.mkfifo(path / name)  # opening it must not wait for a writer
            self.refuse_model(path, name)

    def test_values_of_the_config(self):
        cases = {
            "hidden_size": (-1, 1 << 40, 1.5, "128", 96, None),
            "num_hidden_layers": (0, 10**9, 3),
            "num_attention_heads": (0, 7),
            "vocab_size": (17, -5, 1 << 33),
            "rope_theta": (-5, 0),
            "max_position_embeddings": (0, 1 << 60),
            "torch_dtype": ("int4",),
            "eos_token_id": (10**9, -7),
        }
        # Where a size is right by itself, what does not fit it is named instead.
        elsewhere = {("hidden_size", 96): "model.embed_tokens.weight", ("num_hidden_layers", 3): "model.layers.3"}
        path = self.model()
        good = json.loads((path / "config.json").read_text())
        del good["dtype"]
        for key, values in cases.items():
            for value in values:
                config = {k: v for k, v in {**good, key: value}.items() if v is not None or k != key}
                (path / "config.json").write_text(json.dumps(config))
                self.refuse_model(path, elsewhere.get((key, value), key), "expected" if (key, value) not in elsewhere
                                  and key != "vocab_size" else "")

    def test_weights_that_lie(self):
        def first(header):
            return [k for k in header if k != "__metadata__"][0]

        def change(header, **entry):
            header[first(header)].update(entry)

        def overlap(header):
            names = [k for k in header if k != "__metadata__"]
            header[names[0]] = dict(header[names[1]])

        cases = [
            (lambda h: change(h, dtype="Q9"), "dtype"), (lambda h: change(h, dtype=7), "dtype"),
            (lambda h: change(h, shape=[1 << 62, 1 << 62]), "shape"), (lambda h: change(h, shape=[-1]), "shape"),
            (lambda h: change(h, shape=[1] * 9), "shape"), (lambda h: change(h, data_offsets=[0, 1 << 60]), "data_offsets"),
            (lambda h: change(h, data_offsets=[8, 0]), "data_offsets"), (lambda h: change(h, data_offsets=[0]), "data_offsets"),
            (overlap, "overlap"), (lambda h: h.pop(first(h)), "missing"),
            (lambda h: h.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}), "extra"),
        ]
        path = self.model()
        data = (path / "model.safetensors").read_bytes()
        (path / "model.safetensors").unlink()
        length = struct.unpack("<Q", data[:8])[0]
        for damage, word in cases:
            header = json.loads(data[8:8 + length])
            damage(header)
            text = json.dumps(header).encode()
            (path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])
            if word == "missing":
                self.refuse_model(path, first(json.loads(data[8:8 + length])), "is missing, expected BF16")
            else:
                self.refuse_model(path, "model.safetensors", word)
        for length in (1 << 62, (1 << 64) - 1, 1 << 27):
            (path / "model.safetensors").write_bytes(struct.pack("<Q", length) + b"{}" * 8)
            self.refuse_model(path, "model.safetensors", str(length))

    def test_tokenizers_that_do_not_hold_together(self):
        def entry(tokenizer, value):
            vocab = tokenizer["model"]["vocab"]
            vocab[list(vocab)[1]] = value

        cases = [
            (lambda t: t["model"]["merges"].__setitem__(0, "zz qq"), "merges[0]"),
            (lambda t: t["model"]["merges"].__setitem__(0, 5), "merges[0]"),
            (lambda t: entry(t, 2), "vocab"), (lambda t: entry(t, -4), "vocab"), (lambda t: entry(t, 1 << 40), "vocab"),
            (lambda t: t["model"].update(type="WordPiece"), "WordPiece"),
            (lambda t: t["model"]["vocab"].update(zzzzq=100000), "vocab_size"),
        ]
        path = self.model()
        good = (path / "tokenizer.json").read_text()
        for damage, word in cases:
            tokenizer = json.loads(good)
            damage(tokenizer)
            (path / "tokenizer.json").write_text(json.dumps(tokenizer))
            self.refuse_model(path, "tokenizer.json", word)

    def test_templates_that_never_end(self):
        path = self.model()
        file = path / "tokenizer_config.json"
        config = json.loads(file.read_text())
        for text, words in (("x" * (2 << 20), ("chat template", "1048576")), ("{% if %}", ("chat template", "line 1")),
                            ("{{ messages", ("chat template", "line 1"))):
            file.write_text(json.dumps({**config, "chat_template": text}))
            self.refuse_model(path, *words)
        for text in ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
                     "{{ 'a' * 1000000000 }}", "{{ 1 / 0 }}"):
            file.write_text(json.dumps({**config, "chat_template": text}))
            self.refused([BATON, "solo", "--model", path, "--prompt", "a", "--max-tokens", "1", "--chat"], "1 requests")

    # ---- settings

    def test_settings(self):
        up = [BATON, "up", "--model", DEMO, "--run-dir", self.folder / "run"]
        store = BUILD / "kvstore" / "baton-kvstore"
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            self.refused([*up, "--port", port], str(port), "in use")
        self.refused([BATON, "up", "--model", DEMO, "--run-dir", "/proc/nowhere"], "/proc/nowhere", "cannot be written")
        self.refused([*up, "--prefil", "2"], '"prefil"', 'did you mean "prefill"?')
        self.refused([BATON, "solow"], '"solow"', 'did you mean "solo"?', code=2)
        self.refused([BATON, "up", "--model", "/nowhere"], "/nowhere", "config.json")
        self.refused([BUILD / "coordinator" / "baton-coordinator", "--port", "70000"], "port", '"70000"', "from 0 to 65535")
        self.refused([store, "--kv-bytes", "lots"], "kv-bytes", '"lots"', "64MiB")
        self.refused([store, "--kv-bytes"], "kv-bytes", "wants a value")
        self.refused([store, "--listen", "nonsense"], "nonsense", "tcp://")
        self.refused([store, "--kv-bytes", "8TiB"], "kv-bytes", '"8TiB"', "to 4398046511104")
        self.refused([store, "--slab-bytes", "8TiB"], "slab-bytes", '"8TiB"', "to 4398046511104")
        disk = [store, "--disk-path", self.folder / "disk"]
        self.refused([*disk, "--disk-segment-bytes", "1TiB"], "disk-segment-bytes", '"1TiB"', "to 17179869184")
        self.refused([*disk, "--disk-segment-bytes", "1000001"], "1000001", "from 1048576")
        self.refused([*disk, "--disk-bytes", "100MiB"], "--disk-bytes holds 1 segments", "expected 4 to 1048576")
        self.refused([*disk, "--disk-bytes", "4097TiB", "--disk-segment-bytes", "1MiB"], "--disk-bytes holds 4296015872 segments")
        (self.folder / "wrong.yaml").write_bytes(b"kv-bytes: 64MiB\nname: \xff\n")
        self.refused([store, "--config", self.folder / "wrong.yaml"], "wrong.yaml", "line 2", "UTF-8")
        (self.folder / "wrong.yaml").write_text("kv-bites: 64MiB\n")
        self.refused([store, "--config", self.folder / "wrong.yaml"], "wrong.yaml", 'did you mean "kv-bytes"?')

    def test_model_that_was_not_meant(self):
        decode = [BUILD / "node" / "baton-decode", "--model", DEMO, "--name", "other", "--kv-bytes", "64MiB"]
        nowhere = ["--etcd", "http://127.0.0.1:1"]
        for text in ("", "abc", "g" * 64, "0" * 65):
            self.refused([*decode, *nowhere, "--model-fingerprint", text], f'--model-fingerprint "{text}", expected 64 hexadecimal digits')
        with Cluster(prefill=1, decode=1, kvstore=0) as cluster:
            etcd = ["--etcd", cluster.etcd()]
            right = re.search(r"model demo, fingerprint ([0-9a-f]{64})", pathlib.Path(cluster.folder, "decode-1.log").read_text())[1]

            def other(at):
                return right[:at] + format(int(right[at], 16) ^ 1, "x") + right[at + 1:]

            # Another config, tokenizer or tensor: before anything is read of the weights, and anybody is asked.
            self.refused([*decode, *nowhere, "--model-fingerprint", other(31)], f"a fingerprint that begins with {right[:32]}", "tensors' names, types and shapes differ")
            self.refused([*decode, *etcd, "--model-fingerprint", other(32)], f"has fingerprint {right}, expected", "bytes of the weights differ")
            right_one = subprocess.Popen([*decode, *etcd, "--model-fingerprint", right.upper()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                cluster.wait_for(lambda: "other" in {node["name"] for node in cluster.nodes()}, what="the right one is a member")
            finally:
                right_one.terminate()
                right_one.wait(60)


if __name__ == "__main__":
    unittest.main(verbosity=1)
