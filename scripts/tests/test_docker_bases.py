"""scripts/docker-bases, with a docker and a mmdebstrap that only write down what they are asked for."""

import os
import pathlib
import re
import stat
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = ["BUILD_IMAGE", "BASE_IMAGE", "REDIS_IMAGE", "PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE"]

DOCKER = """#!/bin/sh
echo "$*" >>"$ASKED"
case "$1 $2" in
"image inspect") case " $PRESENT " in *" $3 "*) ;; *) exit 1 ;; esac ;;
"pull "*) [ -n "$REGISTRY" ] || { echo "no such host" >&2; exit 1; } ;;
"build "*) cat >/dev/null ;;
esac
"""


class DockerBases(unittest.TestCase):
    def run_with(self, **environment):
        """Returns the images by name, and the lines that docker was called with."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (
                ("docker", DOCKER),
                ("mmdebstrap", '#!/bin/sh\n: >"$3"\n'),
                ("go", '#!/bin/sh\n[ "$2" = GOROOT ] && echo /etc || echo go1.26.0\n'),
                ("tar", "#!/bin/sh\n"),
            ):
                path = pathlib.Path(folder, name)
                path.write_text(text)
                path.chmod(path.stat().st_mode | stat.S_IXUSR)
            asked = pathlib.Path(folder, "asked")
            asked.touch()
            env = {name: value for name, value in os.environ.items() if name not in NAMES + ["DEBIAN_MIRROR"]}
            env.update(environment, PATH=f"{folder}:{os.environ['PATH']}", ASKED=str(asked))
            done = subprocess.run(
                [str(ROOT / "scripts/docker-bases")],
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                timeout=60,
            )
            self.assertEqual(done.returncode, 0, f"exit status; standard error: {done.stderr}")
            images = dict(line.split("=", 1) for line in done.stdout.splitlines())
            self.assertEqual(list(images), NAMES)
            return images, asked.read_text().splitlines()

    def defaults(self):
        text = (ROOT / "deploy/compose.yaml").read_text()
        return {name: re.search(rf"\$\{{{name}:-([^}}]+)\}}", text).group(1) for name in NAMES}

    def test_takes_what_is_there(self):
        images, asked = self.run_with(PRESENT=" ".join(self.defaults().values()))
        self.assertEqual(images, self.defaults())
        self.assertEqual(
            [line for line in asked if not line.startswith("image inspect")], [], "commands that docker must not get"
        )

    def test_pulls(self):
        images, asked = self.run_with(REGISTRY="yes")
        self.assertEqual(images, self.defaults())
        self.assertEqual(len([line for line in asked if line.startswith("pull")]), len(NAMES))

    def test_makes_them_where_there_is_no_registry(self):
        images, asked = self.run_with()
        self.assertEqual(len([line for line in asked if line.startswith("pull")]), 1, f"number of pulls: {asked}")
        built = [line.split()[4] for line in asked if line.startswith("build")]
        self.assertEqual(built, list(images.values()))
        self.assertEqual([image for image in built if not image.startswith("runqy-base/")], [], "images of other names")

        again, asked = self.run_with(PRESENT=" ".join(built))
        self.assertEqual(again, images)
        self.assertEqual([line for line in asked if line.startswith("build")], [], "commands that docker must not get")

    def test_leaves_what_the_environment_names(self):
        mine = {name: "mine/" + name.lower() for name in NAMES}
        images, asked = self.run_with(**mine)
        self.assertEqual((images, asked), (mine, []))


if __name__ == "__main__":
    unittest.main()
