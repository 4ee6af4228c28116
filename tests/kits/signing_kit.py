"""Real keys of every kind that a team may declare by right or by mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, rsa


def write_keys(folder: Path, name: str = "model", key: Any = None, password: bytes = b"") -> tuple[Path, Path]:
    """A private key and its public half, as `folder/name.pem` and `.pub`; on P-256 where none is given."""
    folder.mkdir(exist_ok=True)
    key = key or ec.generate_private_key(ec.SECP256R1())
    locked: Any = s.BestAvailableEncryption(password) if password else s.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def write_rsa(folder: Path) -> tuple[Path, Path]:
    return write_keys(folder, "rsa", rsa.generate_private_key(65537, 2048))
