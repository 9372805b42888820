import base64
import re
import xml.etree.ElementTree as ElementTree

from training.gradients import of_sigmoid
from training.results.contours import draw_descents
from training.results.surface import N_STEPS, WAYS, minimum, one_feature, path_of, rates


def test_every_rule_is_drawn_and_told_with_its_loss_at_the_end(drawn):
    digits = drawn.train.of_classes((4, 9))
    phi, labels = one_feature(digits)

    section = draw_descents(4, 9, digits)

    (image,) = re.findall(r"base64,(.*?)\"", section)
    svg = base64.b64decode(image).decode()
    ElementTree.fromstring(svg)
    lowest = minimum(phi, labels)
    for (rule, _), alpha in zip(WAYS, rates(lowest, phi), strict=True):
        end = of_sigmoid(path_of(rule, alpha, phi, labels)[-1:], phi, labels)[0]
        told = rf"<td>{rule}</td><td>{alpha:.2f}</td>.*<td>{end:.4f}</td>"
        assert re.search(told, section)
        assert f"<!-- {rule}, α = {alpha:.2f} -->" in svg
    least = of_sigmoid(lowest, phi, labels)[0]
    assert f"J is least, {least:.4f}, at the star" in section
    assert f"{len(digits)} training digits" in section
    assert f"{N_STEPS} steps" in section


def test_digits_that_the_ink_tells_apart_have_no_star(drawn):
    pair = drawn.train.of_classes((4, 9))
    four, nine = (int((pair.labels == label).argmax()) for label in (0, 1))
    apart = pair.rows(four, four + 1) + pair.rows(nine, nine + 1)

    section = draw_descents(4, 9, apart)

    assert "J has no minimum" in section
    assert "star" not in section


def test_digits_of_one_class_alone_are_no_picture(drawn):
    nines = drawn.test.of_classes((9,))

    assert "no training rows of both 9 and 4" in draw_descents(9, 4, nines)
