"""An option of a command is written out; an abbreviated one is as unknown as any other."""

import sys
from importlib import import_module

import pytest

# the arguments that a command demands, and an abbreviation of one of its options
COMMANDS = {
    "train": ("--cfg c.yaml", "--overw"),
    "infer_val": ("--cfg c.yaml", "--mask-output"),
    "eval_seg": ("--filelist l.txt --masks out", "--allow"),
    "core.get_weights": ("vgg16", "--ur"),
    "core.evaluation.figure": ("--filelist l.txt --masks out --out a.png", "--cou"),
    "core.inference.voc_submission": ("--filelist l.txt --masks out --out a.tgz", "--che"),
    "core.inference.pseudo_label_list": ("--filelist l.txt --masks out --out a.txt", "--che"),
    "datasets.mini_voc.__main__": ("--out data", "--see"),
    "datasets.prepare": ("", "--che"),
    "datasets.voc.get_data": ("", "--off"),
    "benchmarks.__main__": ("", "--js"),
    "benchmarks.bounds": ("", "--dev"),
    "benchmarks.growth": ("", "--outp"),
    "benchmarks.gpu.__main__": ("machine --out a", "--tin"),
    "benchmarks.gpu_check": ("", "--tin"),
    "benchmarks.memory": ("", "--back"),
}


@pytest.mark.parametrize("module", COMMANDS)
def test_an_abbreviated_option_is_named(module, monkeypatch, capsys, tmp_path):
    command = import_module(module)
    monkeypatch.chdir(tmp_path)
    words, abbreviation = COMMANDS[module]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [module, "--help"])
        with pytest.raises(SystemExit):
            command.main()
    assert abbreviation in capsys.readouterr().out
    for option in (abbreviation, "--unknown"):
        monkeypatch.setattr(sys, "argv", [module, *words.split(), option])
        with pytest.raises(SystemExit) as end:
            command.main()
        assert end.value.code == 2
        assert option in capsys.readouterr().err.splitlines()[-1]
