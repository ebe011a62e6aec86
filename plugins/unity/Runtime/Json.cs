// JSON as the gateway sends it: small objects, read strictly. C# 7, no Unity types.
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Mien
{
    /// <summary>Objects become dictionaries, arrays lists, numbers doubles.</summary>
    public sealed class Json
    {
        private const int MaxDepth = 32;
        private readonly string _text;
        private int _at;

        private Json(string text) { _text = text; }

        /// <summary>The value; raises RecordException if the text is no JSON.</summary>
        public static object Parse(string text)
        {
            var parser = new Json(text);
            object value = parser.Value(0);
            parser.Space();
            if (parser._at != text.Length) throw parser.Wrong();
            return value;
        }

        /// <summary>Text as a JSON string.</summary>
        public static string Quote(string text)
        {
            var quoted = new StringBuilder("\"");
            foreach (char c in text)
            {
                if (c == '"' || c == '\\') quoted.Append('\\').Append(c);
                else if (c < ' ') quoted.Append("\\u").Append(((int)c).ToString("x4", CultureInfo.InvariantCulture));
                else quoted.Append(c);
            }
            return quoted.Append('"').ToString();
        }

        private RecordException Wrong() { return new RecordException(Fault.Damaged, "text that is not JSON, at character " + _at); }

        private char Peek() { return _at < _text.Length ? _text[_at] : '\0'; }

        private bool Is(char wanted)
        {
            if (Peek() != wanted) return false;
            _at++;
            return true;
        }

        private void Expect(char wanted)
        {
            if (!Is(wanted)) throw Wrong();
        }

        private void Space()
        {
            while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0) _at++;
        }

        private object Word(string word, object value)
        {
            if (string.CompareOrdinal(_text, _at, word, 0, word.Length) != 0) throw Wrong();
            _at += word.Length;
            return value;
        }

        private object Value(int depth)
        {
            Space();
            if (depth > MaxDepth) throw Wrong();
            switch (Peek())
            {
                case '{': return Members(depth);
                case '[': return Items(depth);
                case '"': return String();
                case 't': return Word("true", true);
                case 'f': return Word("false", false);
                case 'n': return Word("null", null);
                default: return Number();
            }
        }

        private object Members(int depth)
        {
            var members = new Dictionary<string, object>();
            _at++;
            Space();
            if (Is('}')) return members;
            do
            {
                Space();
                string key = String();
                Space();
                Expect(':');
                members[key] = Value(depth + 1);
                Space();
            } while (Is(','));
            Expect('}');
            return members;
        }

        private object Items(int depth)
        {
            var items = new List<object>();
            _at++;
            Space();
            if (Is(']')) return items;
            do
            {
                items.Add(Value(depth + 1));
                Space();
            } while (Is(','));
            Expect(']');
            return items;
        }

        private object Number()
        {
            int begin = _at;
            while (_at < _text.Length && "+-.0123456789eE".IndexOf(_text[_at]) >= 0) _at++;
            double value;
            if (!double.TryParse(_text.Substring(begin, _at - begin), NumberStyles.Float, CultureInfo.InvariantCulture, out value)) throw Wrong();
            return value;
        }

        private string String()
        {
            Expect('"');
            var text = new StringBuilder();
            while (_at < _text.Length)
            {
                char c = _text[_at++];
                if (c == '"') return text.ToString();
                if (c < ' ') break;
                text.Append(c == '\\' ? Escape() : c);
            }
            throw Wrong();
        }

        private char Escape()
        {
            char name = Peek();
            _at++;
            int known = "\"\\/bfnrt".IndexOf(name);
            if (known >= 0 && name != '\0') return "\"\\/\b\f\n\r\t"[known];
            int code;
            if (name != 'u' || _at + 4 > _text.Length ||
                !int.TryParse(_text.Substring(_at, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out code)) throw Wrong();
            _at += 4;
            return (char)code;
        }
    }
}
