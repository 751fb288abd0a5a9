"""One question from the command line."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import torch
from align_vlms import picture
from eval_doubles import tiny_llama
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from vlms import family

from contralign.cli import main
from contralign.decoding import encode, generate, parse


@pytest.fixture
def context(tmp_path: Path) -> str:
    file = tmp_path / "context.txt"
    file.write_text("a b c d e\n")
    return str(file)


def answered(folder: Path, *words: str) -> list[str]:
    return ["generate", "--model", str(folder), "--question", "f g", "--max-new-tokens=8", *words]


def expected(folder: Path, method: str, prompt: str, contrast: str) -> str:
    """The same by the library's own calls, in chat."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    decoding = parse(method)
    messages, held_against = ([[{"role": "user", "content": text}]] for text in (prompt, contrast))
    inputs = encode(tokenizer, messages)
    branch = decoding.method.branches(tokenizer, messages, contrast=held_against)
    options = decoding.generate_kwargs()
    ids = generate(model, inputs, decoding.method, branch, max_new_tokens=8, **options)
    return tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("method", ["greedy", "cad:alpha=2", "cad:alpha=2@beam3"])
def test_prints_what_the_library_generates(
    model_folder: Path, context: str, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    assert main(answered(model_folder, "--context", context, "--method", method)) == 0
    printed = capsys.readouterr().out
    assert printed.strip() == expected(model_folder, method, "a b c d e\n\nf g", "f g").strip()


def test_the_context_can_come_from_stdin(
    model_folder: Path,
    context: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    main(answered(model_folder, "--context", context, "--method=cad"))
    from_file = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("a b c d e"))
    main(answered(model_folder, "--context", "-", "--method=cad"))
    assert capsys.readouterr().out == from_file


def test_the_contrast_can_be_given(
    model_folder: Path, context: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--context", context, "--contrast", "x y z", "--method=cad:alpha=3"]
    assert main(answered(model_folder, *words)) == 0
    said = expected(model_folder, "cad:alpha=3", "a b c d e\n\nf g", "x y z")
    assert capsys.readouterr().out.strip() == said.strip()


def test_a_sample_follows_its_seed(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for seed in ("1", "1", "2"):
        torch.manual_seed(0)
        main(answered(model_folder, "--method=sample", "--seed", seed))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_the_system_turn_is_said(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(answered(model_folder, "--system", "q r s"))
    with_system = capsys.readouterr().out
    main(["generate", f"--model={model_folder}", "--question=q r s f g", "--max-new-tokens=8"])
    assert with_system == capsys.readouterr().out


@pytest.mark.parametrize("method", ["greedy", "ritual+vcd"])
def test_a_question_can_be_about_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    model, reader = family("LLaVA-1.5")
    model.save_pretrained(tmp_path)
    reader.save_pretrained(tmp_path)
    files = [str(tmp_path / f"{i}.png") for i in range(2)]
    for index, file in enumerate(files):
        picture(index).save(file)
    asked = [*answered(tmp_path, "--image", files[0], "--image", files[1]), "--method", method]
    assert main([*asked, "--seed", "3"]) == 0
    torch.manual_seed(3)
    parts = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "f g"}]
    messages = [[{"role": "user", "content": parts}]]
    way = parse(method).method
    branch = way.branches(reader, messages, [files])
    inputs = encode(reader, messages, [files])
    ids = generate(model, inputs, way, branch, max_new_tokens=8, do_sample=False)
    said = reader.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert capsys.readouterr().out.strip() == said.strip()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--method", "vcd"], "vcd is about pictures, got none. Pass --image FILE."),
        (["--method", "calibration"], "is about pictures"),
        (["--method", "cd"], "Name a smaller model of its family, a hub id or a folder, as in cd:"),
        (["--contrast", "x"], "greedy holds the prompt against no other, got --contrast 'x'"),
        (["--method", "cad", "--contrast", "f g"], "got --contrast 'f g', the prompt itself"),
        (["--question", " "], "--question says something, got ' '"),
        (["--method", "cad", "--contrast", ""], "--contrast says something, got ''"),
        (["--revision", "main"], "a revision is of a repository on the hub, got revision main"),
        (["--device", "cuda:99"], "a model is put on a device of this machine, got 'cuda:99'"),
        (["--device", "gpu"], "got 'gpu'"),
        (["--device", "meta"], "got 'meta': it holds no values"),
        (["--context", ""], "--context names a file, or is - for stdin, got ''"),
        (["--image", "a.png"], "--image takes a file, but there is none at a.png"),
        (["--method", "cad"], "cad holds the prompt against the same without its context"),
        (["--method", "coied"], "no decoding method is called 'coied'. Did you mean 'coiecd'?"),
        (["--method", "cad:alpha=-1"], "alpha"),
        (["--max-new-tokens", "600"], "600"),
    ],
)
def test_refuses(
    model_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], complaint: str
) -> None:
    assert main(answered(model_folder, *words)) == 2
    assert complaint in capsys.readouterr().err


def test_refuses_an_empty_context(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    assert main(answered(model_folder, "--context", str(tmp_path / "empty.txt"))) == 2
    assert "a context says something, got none from" in capsys.readouterr().err


def test_words_that_are_no_text_are_named(
    model_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    smuggled = b"caf\xe9".decode("utf-8", "surrogateescape")
    for words, where in ((["--context", "-"], "stdin"), (["--question", smuggled], "--question")):
        monkeypatch.setattr("sys.stdin", io.StringIO(smuggled))
        assert main(answered(model_folder, *words)) == 2
        assert f"{where} is no UTF-8 text" in capsys.readouterr().err


def test_what_does_not_fit_a_model_is_named(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = get_peft_model(tiny_llama(hidden_size=32), LoraConfig(target_modules=["q_proj"]))
    wide.save_pretrained(tmp_path / "adapter")
    shutil.copytree(model_folder, tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    shutil.copytree(model_folder, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("tokenizer*"):
        file.unlink()
    small = tmp_path / "small"
    shutil.copytree(model_folder, small)
    tiny_llama(vocab_size=5).save_pretrained(small)
    for words, complaint in (
        (["--adapter", str(tmp_path / "adapter")], f"{tmp_path / 'adapter'} can't be read as"),
        (["--model", str(tmp_path / "broken")], f"{tmp_path / 'broken'} can't be read as either"),
        (["--model", str(tmp_path / "bare")], f"{tmp_path / 'bare'} can't be read as either"),
        (["--model", str(small)], "the main prompt is made of ids of the model's 5 tokens, got"),
    ):
        assert main(answered(model_folder, *words)) == 2
        assert complaint in capsys.readouterr().err


def test_a_context_that_is_no_text_is_named(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file := tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    assert main(answered(model_folder, "--context", str(file))) == 2
    assert f"{file} is no UTF-8 text" in capsys.readouterr().err


def test_a_seed_has_an_end(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(answered(model_folder, f"--seed={2**63}"))
    assert f"takes a number below 2 ** 63, got {2**63}" in capsys.readouterr().err


@pytest.mark.parametrize("seed", ["-1", "0.5", "x"])
def test_a_seed_is_a_whole_number(
    model_folder: Path, capsys: pytest.CaptureFixture[str], seed: str
) -> None:
    with pytest.raises(SystemExit):
        main(answered(model_folder, f"--seed={seed}"))
    assert f"takes a number of at least 0, got '{seed}'" in capsys.readouterr().err


def test_a_missing_context_file_is_named(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(answered(model_folder, "--context", "absent.txt")) == 1
    assert "absent.txt" in capsys.readouterr().err


def test_pictures_for_a_model_without_eyes_are_refused_before_its_weights_are_read(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hollow = tmp_path / "hollow"
    hollow.mkdir()
    (hollow / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    file = tmp_path / "dog.png"
    picture().save(file)
    assert main(answered(hollow, "--image", str(file))) == 2
    assert f"{hollow} reads text alone, got --image {file}" in capsys.readouterr().err
