import java.io.*;
import java.net.Socket;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.*;
import javax.net.ssl.*;

/** Speaks TLS 1.3 with a server: Peer PORT CA. */
public class Peer {
    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(args[0]);
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null, null);
        try (InputStream file = new FileInputStream(args[1])) {
            var factory = CertificateFactory.getInstance("X.509");
            trusted.setCertificateEntry("ca", factory.generateCertificate(file));
        }
        var trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(null, trust.getTrustManagers(), null);
        SSLSession first = echo(context, port);
        SSLSession second = echo(context, port);
        boolean resumed = first.getCreationTime() == second.getCreationTime();
        System.out.println("done " + second.getCipherSuite() + (resumed ? " resumed" : " anew"));
    }

    static SSLSession echo(SSLContext context, int port) throws Exception {
        Socket raw = new Socket("127.0.0.1", port);
        var socket = (SSLSocket) context.getSocketFactory().createSocket(raw, "localhost", port, true);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        parameters.setCipherSuites(new String[] {"TLS_AES_128_GCM_SHA256"});
        socket.setSSLParameters(parameters);
        var out = new DataOutputStream(new BufferedOutputStream(socket.getOutputStream()));
        var in = new DataInputStream(new BufferedInputStream(socket.getInputStream()));
        out.writeBytes("GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            + "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
        out.flush();
        for (int ended = 0; ended < 4; ) {
            int next = in.readUnsignedByte();
            ended = next == "\r\n\r\n".charAt(ended) ? ended + 1 : next == '\r' ? 1 : 0;
        }
        Random random = new Random(1);
        for (int size : new int[] {0, 1, 125, 70_000, 300_000, 1_000_000}) {
            byte[] data = new byte[size];
            random.nextBytes(data);
            out.writeByte(0x82);
            if (size < 126) {
                out.writeByte(0x80 | size);
            } else {
                out.writeByte(0xff);
                out.writeLong(size);
            }
            out.writeInt(0);
            out.write(data);
            out.flush();
            if (in.readUnsignedByte() != 0x82) throw new IOException("no binary message");
            int length = in.readUnsignedByte();
            long whole = length == 127 ? in.readLong() : length == 126 ? in.readUnsignedShort() : length;
            byte[] back = new byte[(int) whole];
            in.readFully(back);
            if (!Arrays.equals(data, back)) throw new IOException("another message came back");
        }
        socket.close();
        return socket.getSession();
    }
}
