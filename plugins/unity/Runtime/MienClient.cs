// The connection to the gateway: a thread that reads all the time and keeps the newest head, nothing older. No Unity types.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Threading;

namespace Mien
{
    /// <summary>Comes back by itself; Take from any one thread, Status says why nothing moves.</summary>
    public sealed class MienClient : IDisposable
    {
        private const int RetryMs = 500;
        private const int RefusedMs = 3000; // a server that does not speak our language will not learn at once
        private const int SilenceMs = 5000; // health comes each second

        private readonly string _host, _token;
        private readonly int _port;
        private readonly bool _mesh, _tls;
        private readonly byte[] _certificate;
        private readonly object _lock = new object();
        private readonly ManualResetEvent _done = new ManualResetEvent(false);
        private readonly Thread _thread;
        private TcpClient _socket;
        private Topology _topology;
        private Frame _frame = new Frame();
        private bool _freshTopology, _freshFrame;
        private string _status;

        /// <param name="mesh">false: weights and pose only.</param>
        /// <param name="tls">whether the gateway has serve.tls_certificate.</param>
        /// <param name="certificate">the text of that PEM file, if this machine does not trust it anyway: that certificate and no other will do.</param>
        public MienClient(string host, int port, string token = "", bool mesh = true, bool tls = false, string certificate = "")
        {
            _tls = tls;
            _certificate = Pem(certificate);
            _host = host;
            _port = port;
            _token = token ?? "";
            _mesh = mesh;
            _status = "connecting to " + host + ":" + port;
            _thread = new Thread(Run) { IsBackground = true, Name = "Mien" };
            _thread.Start();
        }

        /// <summary>One line for people.</summary>
        public string Status { get { lock (_lock) return _status; } }

        /// <summary>The newest topology if it was not taken yet, else null.</summary>
        public Topology TakeTopology()
        {
            lock (_lock)
            {
                Topology topology = _freshTopology ? _topology : null;
                _freshTopology = false;
                return topology;
            }
        }

        /// <summary>Exchanges the caller's frame for the newest one if it was not taken yet: buffers go round, nothing is allocated.</summary>
        public bool TakeFrame(ref Frame frame)
        {
            lock (_lock)
            {
                if (!_freshFrame || _freshTopology) return false;
                Frame newest = _frame;
                _frame = frame;
                frame = newest;
                _freshFrame = false;
                return true;
            }
        }

        /// <summary>Hangs up for good.</summary>
        public void Dispose()
        {
            _done.Set();
            lock (_lock)
            {
                if (_socket != null) _socket.Close();
            }
            _thread.Join();
        }

        private void Run()
        {
            while (!_done.WaitOne(0))
            {
                int pause = RetryMs;
                try { Say(Talk()); }
                catch (RecordException error)
                {
                    if (error.Fault != Fault.Incomplete) pause = RefusedMs;
                    Say(error.Message);
                }
                catch (SocketException) { Say(Nobody()); }
                catch (AuthenticationException) { pause = RefusedMs; Say(NoTls()); }
                catch (IOException error)
                {
                    SocketError cause = Cause(error);
                    bool silent = cause == SocketError.TimedOut || cause == SocketError.WouldBlock;
                    Say(silent ? "the server has fallen silent; connecting again" : _tls ? NoTls() : Nobody());
                }
                catch (ObjectDisposedException) { Say("not connected"); } // closed while it read
                _done.WaitOne(pause);
            }
        }

        private string Nobody() { return "nobody answers at " + _host + ":" + _port + "; is `mien serve` running?"; }

        private string NoTls()
        {
            return "no TLS with " + _host + ":" + _port + ": is serve.tls_certificate set there, and is it trusted here (Certificate)?";
        }

        private static SocketError Cause(Exception error)
        {
            for (; error != null; error = error.InnerException)
            {
                var cause = error as SocketException;
                if (cause != null) return cause.SocketErrorCode;
            }
            return SocketError.Success;
        }

        private static byte[] Pem(string text)
        {
            const string begin = "-----BEGIN CERTIFICATE-----", end = "-----END CERTIFICATE-----";
            if (string.IsNullOrEmpty(text)) return null;
            int from = text.IndexOf(begin, StringComparison.Ordinal), to = text.IndexOf(end, StringComparison.Ordinal);
            if (from < 0 || to < from) throw new ArgumentException("certificate is no PEM text: " + begin + " is missing");
            return Convert.FromBase64String(text.Substring(from + begin.Length, to - from - begin.Length));
        }

        private Stream Secured(Stream plain)
        {
            if (!_tls) return plain;
            var stream = new SslStream(plain, false, Trusted);
            stream.AuthenticateAsClient(_host, null, SslProtocols.Tls12, false);
            return stream;
        }

        private bool Trusted(object sender, X509Certificate shown, X509Chain chain, SslPolicyErrors errors)
        {
            if (_certificate == null) return errors == SslPolicyErrors.None;
            byte[] data = shown == null ? new byte[0] : shown.GetRawCertData();
            bool same = data.Length == _certificate.Length;
            for (int k = 0; same && k < data.Length; k++) same = data[k] == _certificate[k];
            return same;
        }

        private string Talk()
        {
            using (var socket = new TcpClient { NoDelay = true, ReceiveBufferSize = 1 << 20 })
            {
                lock (_lock)
                {
                    if (_done.WaitOne(0)) return "not connected";
                    _socket = socket;
                }
                socket.Connect(_host, _port);
                NetworkStream plain = socket.GetStream();
                plain.ReadTimeout = SilenceMs;
                Stream stream = Secured(plain);
                string asked = "{\"target\":\"unity\",\"split\":true,\"normals\":true" + (_mesh ? "" : ",\"mesh\":false") +
                    (_token.Length == 0 ? "" : ",\"token\":" + Json.Quote(_token)) + "}";
                byte[] request = Reader.EncodeRequest(asked);
                stream.Write(request, 0, request.Length);
                Say("connected; waiting for a head");
                return Receive(stream);
            }
        }

        private string Receive(Stream stream)
        {
            var reader = new Reader();
            var message = new Message();
            var bytes = new byte[1 << 18];
            bool answered = false;
            while (true)
            {
                int count = ReadSome(stream, bytes);
                if (count == 0)
                {
                    reader.Close();
                    return "the server hung up; connecting again";
                }
                reader.Feed(bytes, 0, count);
                while (reader.Next(message))
                {
                    if (message.Kind == Kind.End) return "the server says: " + message.Text + "; connecting again";
                    if (message.Kind == Kind.Hello) answered = Answered(message.About);
                    else if (answered) Keep(message); // else in a form that was not asked for
                }
            }
        }

        /// <summary>Bytes read; 0 also where the server cut the line: what came before it is still told.</summary>
        private static int ReadSome(Stream stream, byte[] bytes)
        {
            try { return stream.Read(bytes, 0, bytes.Length); }
            catch (IOException error)
            {
                if (Cause(error) != SocketError.ConnectionReset) throw;
                return 0;
            }
        }

        private bool Answered(Dictionary<string, object> about)
        {
            object target, token;
            about.TryGetValue("token", out token);
            if (true.Equals(token) && _token.Length == 0)
                throw new RecordException(Fault.Damaged, "the server asks for a token: that of its serve.token_file");
            return about.TryGetValue("target", out target) && "unity".Equals(target);
        }

        private void Keep(Message message)
        {
            if (message.Kind == Kind.Topology)
            {
                Topology told = message.Topology;
                lock (_lock)
                {
                    _topology = told;
                    _freshTopology = true;
                    _freshFrame = false; // a head of the old topology is of no use any more
                }
                Say("live: " + (told.Name.Length == 0 ? "head" : told.Name) + ", " + told.Vertices + " vertices");
            }
            else if (message.Kind == Kind.Frame || message.Kind == Kind.Weights)
            {
                lock (_lock)
                {
                    Frame old = _frame;
                    _frame = message.Frame;
                    message.Frame = old;
                    _freshFrame = true;
                }
            }
        }

        private void Say(string status)
        {
            lock (_lock) _status = status;
        }
    }
}
