"""Tables with notes: printed with the table, through pandas' own methods."""

import io
import pickle

import pandas as pd

from skhier.utils.notes import NotedFrame


def table():
    noted = NotedFrame({"mean": [1.25, 2.0], "sd": [0.1, 0.2]}, index=["a", "b<c"])
    noted.attrs["notes"] = ["'b<c' is left out.", "And another."]
    return noted


END = "\nNote: 'b<c' is left out.\nNote: And another."


def test_notes_are_printed_beneath():
    noted = table()
    for shown in (noted, noted.round(1), noted[noted["sd"] > 0], noted[["mean"]], noted.T):
        plain = pd.DataFrame(shown)
        plain.attrs.clear()
        assert str(shown) == str(plain) + END
        assert shown.to_string() == plain.to_string() + END
    assert str(noted["mean"]) == str(pd.DataFrame(noted)["mean"])


def test_notes_survive_a_pickle():
    assert str(pickle.loads(pickle.dumps(table()))) == str(table())


def test_html_has_escaped_notes():
    html = table()._repr_html_()
    assert html.endswith("<p>Note: &#x27;b&lt;c&#x27; is left out.</p><p>Note: And another.</p>")


def test_without_notes_it_is_a_data_frame():
    plain = pd.DataFrame({"mean": [1.25]})
    assert str(NotedFrame(plain)) == str(plain)
    assert NotedFrame(plain)._repr_html_() == plain._repr_html_()
    pd.testing.assert_frame_equal(NotedFrame(plain), plain, check_frame_type=False)


def test_a_file_gets_the_table_alone():
    out = io.StringIO()
    table().to_string(out)
    assert "Note" not in out.getvalue()
