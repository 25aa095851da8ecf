// Prints tokens made by jose, for tests/jwt/others.rs: the key as a JWK, a blank, the token.
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.env.OTHERS}/node/`);
const { SignJWT, exportJWK, generateKeyPair } = await import(pathToFileURL(require.resolve("jose")));

const exp = Number(process.env.EXP);
for (const alg of ["HS256", "ES256", "EdDSA"]) {
  const pair = alg === "HS256" ? null : await generateKeyPair(alg, { extractable: true });
  const secret = new Uint8Array(randomBytes(48));
  const jwk = { ...(await exportJWK(pair?.publicKey ?? secret)), kid: alg, alg, use: "sig" };
  const claims = { publish: ["devices.7.*"], subscribe: ["commands.7"] };
  const token = await new SignJWT(claims).setProtectedHeader({ alg, kid: alg, typ: "JWT" })
    .setSubject("device ü 7").setIssuer("https://issuer.example").setAudience("us")
    .setNotBefore(exp - 60).setExpirationTime(exp).sign(pair?.privateKey ?? secret);
  console.log(JSON.stringify(jwk), token);
}
