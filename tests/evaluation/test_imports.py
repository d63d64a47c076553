import subprocess
import sys


def test_evaluation_needs_no_torch_no_fastreid_and_no_search_library():
    program = (
        "import importlib, pkgutil, sys\n"
        "absent = ('torch', 'fastreid', 'yacs', 'cv2', 'faiss', 'lancedb', 'pyarrow')\n"
        "sys.modules.update(dict.fromkeys(absent))\n"  # importing one raises
        "import cmemd.cli.compare, cmemd.evaluation\n"
        "names = [module.name for module in pkgutil.iter_modules(cmemd.evaluation.__path__)]\n"
        "assert {'open_set', 'ranked_gallery', 'sampling', 'scoring'} <= set(names)\n"
        "for name in names:\n"
        "    importlib.import_module(f'cmemd.evaluation.{name}')\n"
        "late = {'cmemd.compat', 'scipy', 'matplotlib.pyplot', 'jsonschema'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
