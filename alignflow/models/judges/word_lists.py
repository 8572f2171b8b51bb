"""Small word lists for the principles, written for this project: stop words by language, and sentiment."""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS: Mapping[str, frozenset[str]] = {
    "en": _words(
        """a about after all also an and any are as at be because been but by can could did do does for from had has
        have he her him his how i if in into is it its just me more my no not of on one or our out over she so some
        than that the their them then there these they this to too up us very was we were what when where which who
        why will with would you your"""
    ),
    "de": _words(
        """aber als am an auch auf aus bei bin bis da das dass dem den der des die dir doch du ein eine einem einen einer
        er es für hat haben hatte ich ihr im in ist ja kann kein keine man mehr mein mich mir mit nach nicht noch nur
        oder sein seine sich sie sind so über um und uns vom von vor war was wenn wer wie wir wird zu zum zur"""
    ),
    "fr": _words(
        """à au aussi aux avec avoir c ce ces cette comme d dans de des du elle elles en est et être eux fait il ils j je
        l la le les leur leurs lui mais me même mes moi mon n ne nos notre nous on ou où par pas plus pour qu que qui s sa
        sans se ses si son sont sur ta te tes toi ton tout tu un une vos votre vous y"""
    ),
    "es": _words(
        """a al algo aquí así aunque cada como con cuando de del desde donde el ella ellas ellos en entre era es esa ese eso
        esta este esto están está fue ha han hasta hay la las le les lo los más me mi mis mucho muy nada ni no nos o para
        pero por porque que quien se ser si sin sobre son su sus también te tiene todo tu un una uno y ya yo"""
    ),
}

POSITIVE = _words(
    """able amazing awesome beautiful best better bright calm care careful caring charming cheerful clear clever comfort
    comfortable confident cosy cozy curious delicious delight delighted delightful eager easy encourage enjoy enjoyed
    enjoyable excellent excited exciting fantastic favorite favourite fine fresh friend friendly friends fun funny gentle
    gift glad good grateful great happily happiness happy healthy help helped helpful helping honest hope hug interesting
    joy joyful kind kindly kindness laugh laughed like liked lively love loved lovely lucky magical nice patient peaceful
    perfect playful pleasant please pleased pleasure polite positive pretty proud relaxed safe share shared smart smile
    smiled smiling special strong success successful sunny superb sweet thank thankful thanks together treasure true
    trust useful valuable warm welcome well win wise wonderful worth"""
)

NEGATIVE = _words(
    """afraid alone angry annoyed annoying anxious ashamed awful bad bitter boring bored broke broken cold cried cruel cry
    crying damage danger dangerous dark dead death die died difficult dirty disappointed disgusting dull dumb evil fail
    failed failure fault fear fight fool foolish frightened ghost gloomy grumpy guilty hard hate hated hates horrible hungry
    hurt idiot ignore ill jealous kill lazy lie lied lonely lose lost mad mean mess miserable mistake nasty negative never
    nervous nightmare nobody nonsense pain painful pathetic pointless poison poor problem rude sad sadly sadness scared scary
    selfish shout shouted sick silly sorry stole stupid suffer terrible tired trouble ugly unfair unhappy unkind upset
    useless waste weak weird whatever worried worry worse worst wrong"""
)

# A word of sentiment after one of these, at most two words on, counts for the other side.
NEGATIONS = _words("not no never don't doesn't didn't isn't wasn't aren't can't cannot won't without hardly")
