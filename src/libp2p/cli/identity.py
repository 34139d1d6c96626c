"""`libp2p id`: who a key is."""

from __future__ import annotations

import base64
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InvalidKey
from ..identity import KeyType, PrivateKey, load_or_create_private_key, load_private_key
from .common import ExitCode, Json, Output, fail


class KeyName(StrEnum):
    """The key types, by the names of `KeyType`."""

    ED25519 = "ed25519"
    SECP256K1 = "secp256k1"
    ECDSA = "ecdsa"
    RSA = "rsa"


def show_id(
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="A private key's file.")] = None,
    key_type: Annotated[KeyName, typer.Option("--type", help="The type of a new key.")] = KeyName.ED25519,
    create: Annotated[bool, typer.Option("--create", help="Make FILE, with a new key, if it is missing.")] = False,
    as_json: Json = False,
) -> None:
    """Print the peer id of a private key; without --key, of a new one that is not kept."""
    new_type = KeyType[key_type.name]
    try:
        if key is None:
            private_key = PrivateKey.generate(new_type)
        elif create:
            private_key = load_or_create_private_key(key, key_type=new_type)
        else:
            private_key = load_private_key(key)
    except (InvalidKey, OSError) as error:
        fail(error, ExitCode.USAGE)
    public_key = private_key.public_key
    Output(as_json).line(
        str(public_key.peer_id),
        peer_id=str(public_key.peer_id),
        type=public_key.type.name.lower(),
        public_key=base64.b64encode(public_key.to_protobuf()).decode(),
    )
