"""Certificates for tests, made with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate that signs itself, for `localhost`."""

    certificate: Path
    key: Path

    def become(self, other: "Certificate") -> None:
        """Have another's content, as an operator replaces files: each at once."""
        for mine, new in ((self.certificate, other.certificate), (self.key, other.key)):
            beside = mine.with_suffix(".new")
            beside.write_bytes(new.read_bytes())
            beside.rename(mine)


def make_certificate(openssl: str, folder: Path, name: str) -> Certificate:
    """`name` is the subject's common name, and that of the files."""
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate), "-days", "30"]
    command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    return made
