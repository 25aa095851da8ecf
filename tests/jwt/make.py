"""Prints tokens made by PyJWT, for tests/jwt/others.rs: the key as a JWK, a blank, the token."""

import json
import os
import secrets

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

claims = {
    "sub": "device \u00fc 7",
    "exp": int(os.environ["EXP"]),
    "nbf": int(os.environ["EXP"]) - 60,
    "iss": "https://issuer.example",
    "aud": ["us", "them"],
    "publish": ["devices.7.*"],
    "subscribe": ["commands.7"],
}
keys = {
    "HS256": secrets.token_bytes(48),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
for name, key in keys.items():
    public = key if name == "HS256" else key.public_key()
    jwk = jwt.get_algorithm_by_name(name).to_jwk(public, as_dict=True)
    jwk["kid"] = name
    token = jwt.encode(claims, key, algorithm=name, headers={"kid": name})
    print(json.dumps(jwk, separators=(",", ":")), token)
