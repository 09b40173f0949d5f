"""The sentences of the generated corpus: what `sample` puts together, as plain data.

In every dialogue an asker wants something from a helper. In the texts

- `[a|b|c]` stands for one of the alternatives, drawn anew each time,
- `{day}` stands for the domain's slot of that name, the same value throughout a dialogue,
- `{asker}` and `{helper}`, in summaries, stand for the two speakers' markers,
- `이(가)`, `은(는)`, `을(를)`, `과(와)`, `이면(면)`, `이에요(예요)` and `(으)로` stand for the form
  that the sound before asks for.

Whatever phrasings are drawn, the turns of a request name every slot, so that a summary only says
what was said. Slots of one domain that must differ, such as the old and the new day, draw from
separate lists.
"""

from dataclasses import dataclass

Turn = tuple[str, ...]
"""The phrasings of one turn."""

Exchange = tuple[Turn, ...]
"""An even number of turns; the asker begins, then the two take turns."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One kind of conversation."""

    slots: dict[str, tuple[str, ...]]
    """What differs from dialogue to dialogue: name -> values."""
    welcome: Turn
    """What the helper says before the asker's request, if anything."""
    request: Exchange
    """The conversation itself, two exchanges; it names every slot."""
    questions: tuple[Exchange, ...]
    """What the asker may want to know in addition, once the request is settled."""
    summaries: tuple[str, ...]
    """The phrasings of the summary."""


@dataclass(frozen=True, slots=True)
class Texts:
    """All sentences of one language."""

    greeting: Turn
    """What the asker says before the helper's welcome, if anything."""
    small_talk: tuple[Exchange, ...]
    """Between welcome and request."""
    interruptions: tuple[Exchange, ...]
    """Between two turns of the request."""
    afterthoughts: tuple[Exchange, ...]
    """After the request, among the domain's questions."""
    goodbye: Exchange
    domains: dict[str, Domain]


_EN_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_EN_TIMES = ("nine", "ten", "two", "three", "four", "five")

_EN = Texts(
    greeting=(
        "[Hi|Hello|Good morning|Good afternoon].",
        "[Hi|Hello], do you have a minute?",
        "[Excuse me|Sorry], I need some help.",
    ),
    small_talk=(
        (
            ("It is so [cold|hot|windy|wet] today.", "What [awful|strange|lovely] weather today."),
            ("[Yes, it really is|I know|So it is]. I hope it changes soon.", "Yes, all week long."),
        ),
        (
            ("The traffic was [terrible|very bad] this morning.", "My bus was late again today."),
            ("[Oh no|Not again]. The same thing happened to me.", "I always take the subway."),
        ),
        (
            ("You seem [busy|tired] today.", "Is it a [busy|long] day for you?"),
            ("A little. I have not had lunch yet.", "It's fine, I just had some coffee."),
            ("You should take a break.", "Then I'll try to be quick."),
            ("[Don't worry|It's okay], I have time for you.", "Thanks, that is kind of you."),
        ),
        (
            ("How was your weekend?", "Did you have a good weekend?"),
            (
                "[Great|Very nice]. We had a picnic in the park.",
                "[Quiet|Short]. I slept and watched a movie.",
            ),
        ),
        (
            ("Did you watch the game last night?", "What a game last night!"),
            ("Yes, I could not believe the score.", "No, I fell asleep on the sofa."),
            ("The last ten minutes were [amazing|crazy].", "Everybody is talking about it."),
            ("I will watch it again tonight.", "Please don't tell me how it ended."),
        ),
        (
            ("I had a hard time finding your number.", "I tried to reach you before."),
            ("[Sorry|Sorry about that], we were all out.", "Oh, our line is often busy."),
        ),
    ),
    interruptions=(
        (
            ("Sorry, [hold on|one moment], someone is at the door.", "Wait, my phone is ringing."),
            ("[Sure|Of course], take your time.", "No problem, I'll wait."),
        ),
        (
            ("[Sorry|Pardon], could you say that again?", "I didn't catch that, sorry."),
            ("[Sure|Of course], I can speak up a bit.", "I was too fast. I'll say it slowly."),
            ("That is better, thank you.", "Now I can hear you well."),
            ("Good, then let us go on.", "Great, where were we?"),
        ),
        (
            ("Let me [get a pen|write this down].", "Let me find my notes."),
            ("[Sure|Go ahead], there is no hurry.", "Okay, tell me when you are ready."),
        ),
        (
            ("Let me think for a [second|moment].", "Hmm, give me a [second|moment]."),
            ("Of course, [think it over|no rush].", "Take all the time you need."),
        ),
        (
            ("My dog is barking, sorry about the noise.", "It is so loud here, sorry."),
            ("That's all right, I can hear you.", "Don't worry, my office is loud too."),
        ),
    ),
    afterthoughts=(
        (
            ("Is there somewhere to park?", "Can I park close by?"),
            ("Yes, [behind the building|across the street].", "Yes, and the first hour is free."),
        ),
        (
            ("Could you send me a message to confirm?", "Can I get that in writing?"),
            ("[Sure|Of course], you will get an email.", "Yes, I'll text you right away."),
        ),
        (
            ("Who should I call if something changes?", "What if I need to change something?"),
            ("Just call me again.", "Then send me a short message."),
            ("[Fine|Good], I will keep your number.", "Okay, I hope nothing comes up."),
            ("I'm here every day until six.", "I always check my messages."),
        ),
        (
            ("Let me say it once more to be sure.", "Let me check that I got everything."),
            ("Yes, you got it all.", "That is all correct."),
        ),
        (
            ("Oh, and are you open on holidays?", "By the way, do you work on holidays?"),
            ("No, we are closed on holidays.", "Only in the morning on holidays."),
        ),
        (
            ("Was that the last thing on our list?", "Did we forget anything?"),
            ("I think that was everything.", "No, I don't think so."),
        ),
    ),
    goodbye=(
        ("[Thanks|Thank you][| very much| for your help].", "[Great|Perfect], thank you."),
        ("[You're welcome|My pleasure|No problem].", "[Have a nice day|Take care|Goodbye]."),
    ),
    domains={
        "clinic": Domain(
            slots={
                "care": (
                    "eye exam",
                    "flu shot",
                    "blood test",
                    "skin check",
                    "dentist visit",
                    "health check",
                ),
                "reason": (
                    "a business trip",
                    "a wedding",
                    "an exam",
                    "a bad cold",
                    "a family visit",
                    "a job interview",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "doctor": (
                    "Kim",
                    "Lee",
                    "Brown",
                    "Green",
                    "Smith",
                    "White",
                ),
            },
            welcome=(
                "[City|Green Hill|Lakeside] clinic, [how can I help|what can I do for you]?",
                "Doctor's office, [how can I help|what can I do for you]?",
            ),
            request=(
                (
                    "I have {reason}, so I need to [move|change] my {care}.",
                    "[Can|Could] I move my {care}? I have {reason}.",
                    "About my {care} with Doctor {doctor}, I can't come. I have {reason}.",
                ),
                (
                    "[Sure|No problem]. When is good for your {care}?",
                    "[I see|All right]. When can you come for the {care}?",
                ),
                (
                    "Is {day} at {time} [possible|free]?",
                    "[How|What] about {day} at {time}?",
                ),
                (
                    "{day} at {time} is [fine|free]. Doctor {doctor} will do the {care}.",
                    "Okay, {care} on {day} at {time}, with Doctor {doctor}.",
                ),
            ),
            questions=(
                (
                    ("Do I have to come early?", "When should I be there?"),
                    ("Ten minutes before is enough.", "Please be a little early."),
                ),
                (
                    ("Can I eat before I come?", "Is breakfast all right that day?"),
                    ("Yes, a light meal is fine.", "Better not, only water."),
                ),
                (
                    ("Should I bring my insurance card?", "What should I bring along?"),
                    ("Your insurance card, please.", "Only your ID, we have the rest."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to move the {care} to {day} at {time} because "
                "of {reason}.",
                "{asker} [asks|needs] {helper} to move the {care} to {day} at {time} due to "
                "{reason}.",
            ),
        ),
        "restaurant": Domain(
            slots={
                "table": (
                    "a table for two",
                    "a table for four",
                    "a table for six",
                    "a big table",
                    "a quiet table",
                    "a small room",
                ),
                "occasion": (
                    "a birthday",
                    "a wedding",
                    "a family visit",
                    "a first date",
                    "a work dinner",
                    "a goodbye party",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "place": (
                    "by the window",
                    "by the door",
                    "on the roof",
                    "in the garden",
                    "in the back",
                    "near the bar",
                ),
            },
            welcome=(
                "[Blue Door|Old Mill|Red Lantern] restaurant, [good evening|hello].",
                "Thank you for calling the [Blue Door|Old Mill|Red Lantern].",
            ),
            request=(
                (
                    "I'd like to book {table} for {occasion}.",
                    "Do you have {table}? It is for {occasion}.",
                    "We have {occasion}. Can I book {table}?",
                ),
                (
                    "[Yes|Sure]. When do you need {table}?",
                    "[Of course|Certainly], {table}. For what day?",
                ),
                (
                    "On {day} at {time}[|, please].",
                    "[How about|Can we say] {day} at {time}?",
                ),
                (
                    "[Good|Fine], {day} at {time}. I have {table} {place}.",
                    "I have {table} {place} on {day} at {time}.",
                ),
            ),
            questions=(
                (
                    (
                        "Do you have vegetarian dishes?",
                        "My friend does not eat meat. Is that okay?",
                    ),
                    ("Yes, we have a whole page of them.", "Sure, the chef can cook anything."),
                ),
                (
                    ("May we bring our own cake?", "Can we bring a cake?"),
                    ("Yes, we will bring the plates.", "[Sure|Yes], we keep it cold for you."),
                ),
                (
                    ("How long can we stay?", "Is there a time limit?"),
                    ("You can stay until we close.", "Two hours, if it is full."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to book {table} on {day} at {time} because of "
                "{occasion}.",
                "{asker} [asks|needs] {helper} to book {table} on {day} at {time} due to "
                "{occasion}.",
            ),
        ),
        "meeting": Domain(
            slots={
                "papers": (
                    "sales report",
                    "budget plan",
                    "new photos",
                    "price list",
                    "team notes",
                    "old contract",
                ),
                "reason": (
                    "a new client",
                    "a new boss",
                    "an office move",
                    "a price change",
                    "a big mistake",
                    "a big order",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "room": (
                    "room one",
                    "room two",
                    "room three",
                    "the hall",
                    "the cafe",
                    "my office",
                ),
            },
            welcome=(
                "[Come in|Hi], what do you need?",
                "[Good morning|Hello]. You wanted to [talk|see me]?",
            ),
            request=(
                (
                    "We have to meet because of {reason}. [Can|Could] you bring the {papers}?",
                    "There is {reason}, so I need the {papers} for a meeting.",
                    "Please bring the {papers} to a meeting. It is about {reason}.",
                ),
                (
                    "[Sure|Okay], I have the {papers}. When do we meet?",
                    "The {papers}? [Sure|Fine]. When is the meeting?",
                ),
                (
                    "On {day} at {time}[|, please].",
                    "[How about|Can we say] {day} at {time}?",
                ),
                (
                    "[Good|Fine], I'll bring the {papers} to {room} on {day} at {time}.",
                    "{day} at {time} in {room}, with the {papers}. [Good|Fine].",
                ),
            ),
            questions=(
                (
                    ("Will the boss be there too?", "Should we ask the boss to come?"),
                    ("Yes, she wants to know everything.", "No, she is away this week."),
                ),
                (
                    ("Can some people join online?", "Do we need a video link?"),
                    ("Yes, I'll send the link.", "No, everyone is in the office."),
                ),
                (
                    ("How long will it take?", "Will an hour be enough?"),
                    ("Half an hour, I think.", "An hour should be enough."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to bring the {papers} on {day} at {time} "
                "because of {reason}.",
                "{asker} [asks|needs] {helper} to bring the {papers} on {day} at {time} due to "
                "{reason}.",
            ),
        ),
        "delivery": Domain(
            slots={
                "item": (
                    "coffee maker",
                    "winter coat",
                    "desk lamp",
                    "school bag",
                    "office chair",
                    "red jacket",
                ),
                "problem": (
                    "a scratch",
                    "a stain",
                    "a broken part",
                    "a bad smell",
                    "a hole",
                    "a missing part",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "remedy": (
                    "your money back",
                    "a new one",
                    "store credit",
                    "a discount",
                    "a gift card",
                    "a free gift",
                ),
            },
            welcome=(
                "Customer service, [how can I help|what can I do for you]?",
                "[Thank you for calling|Welcome to] the online store.",
            ),
            request=(
                (
                    "I got the {item}, but it has {problem}. [Can|Could] you pick it up?",
                    "The {item} I ordered has {problem}. I want to send it back.",
                    "Please take the {item} back. It has {problem}.",
                ),
                (
                    "[I'm sorry|Oh, sorry]. When can we pick up the {item}?",
                    "[I'm sorry|Oh no]. We will pick up the {item}. When is good?",
                ),
                (
                    "On {day} at {time}[|, please].",
                    "[How about|Is it okay on] {day} at {time}?",
                ),
                (
                    "[Good|Fine], we pick up the {item} on {day} at {time}. You get {remedy}.",
                    "{day} at {time} is [fine|good]. For the {item} you get {remedy}.",
                ),
            ),
            questions=(
                (
                    ("Do I need the box?", "Should I keep the box?"),
                    ("Yes, please put it in the box.", "No, any bag will do."),
                ),
                (
                    ("Do I pay for shipping?", "Is the return free?"),
                    ("No, shipping is free.", "Yes, it is free for you."),
                ),
                (
                    ("Where is my order number?", "Do you need my order number?"),
                    ("It is in the email.", "No, I can see your order here."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to pick up the {item} on {day} at {time} "
                "because of {problem}.",
                "{asker} [asks|needs] {helper} to pick up the {item} on {day} at {time} due to "
                "{problem}.",
            ),
        ),
        "school": Domain(
            slots={
                "work": (
                    "history essay",
                    "history report",
                    "art project",
                    "music report",
                    "English essay",
                    "math project",
                ),
                "reason": (
                    "a bad cold",
                    "a family visit",
                    "an exam",
                    "a sick dog",
                    "a wedding",
                    "a big game",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "condition": (
                    "read one more book",
                    "bring a note",
                    "help a friend",
                    "clean the room",
                    "write one more page",
                    "come on time",
                ),
            },
            welcome=(
                "[Yes|Hello], do you have a question?",
                "Class is over. [Is something wrong|Do you need help]?",
            ),
            request=(
                (
                    "I had {reason}, so my {work} is not ready. [Can|Could] you wait?",
                    "My {work} will be late because of {reason}. [Can|Could] you wait?",
                    "[Can|Could] I bring the {work} later? I had {reason}.",
                ),
                (
                    "[I see|All right]. When will the {work} be ready?",
                    "I can wait for the {work}. Until when?",
                ),
                (
                    "Until {day} at {time}[|, please].",
                    "Is {day} at {time} [okay|fine]?",
                ),
                (
                    "[Good|Fine], the {work} on {day} at {time}. But please {condition}.",
                    "I will wait for the {work} until {day} at {time} if you {condition}.",
                ),
            ),
            questions=(
                (
                    ("Will I lose points?", "Does it change my grade?"),
                    ("Not this time.", "Only if it is late again."),
                ),
                (
                    ("Can I work with a friend?", "May I ask a friend for help?"),
                    ("Yes, but write it yourself.", "No, please do it alone."),
                ),
                (
                    ("Should I print it?", "May I send it by email?"),
                    ("Please print it.", "Email is fine with me."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to wait for the {work} until {day} at {time} "
                "because of {reason}.",
                "{asker} [asks|needs] {helper} to wait for the {work} until {day} at {time} "
                "due to {reason}.",
            ),
        ),
        "repair": Domain(
            slots={
                "machine": (
                    "washing machine",
                    "coffee maker",
                    "old laptop",
                    "water heater",
                    "dishwasher",
                    "fridge",
                ),
                "fault": (
                    "a loud noise",
                    "a strange smell",
                    "a broken part",
                    "a red light",
                    "a crack",
                    "a burning smell",
                ),
                "day": _EN_DAYS,
                "time": _EN_TIMES,
                "price": (
                    "40 dollars",
                    "50 dollars",
                    "60 dollars",
                    "70 dollars",
                    "80 dollars",
                    "90 dollars",
                ),
            },
            welcome=(
                "Repair service, [how can I help|what is the problem]?",
                "[Hello|Hi], this is the repair shop.",
            ),
            request=(
                (
                    "My {machine} has {fault}. [Can|Could] you fix it?",
                    "There is a problem with my {machine}. I noticed {fault}.",
                    "[Can|Could] you fix my {machine}? It has {fault}.",
                ),
                (
                    "[Sure|I see]. When can I come to fix the {machine}?",
                    "I can fix the {machine}. When are you home?",
                ),
                (
                    "On {day} at {time}[|, please].",
                    "[How|What] about {day} at {time}?",
                ),
                (
                    "[Good|Fine], I'll fix the {machine} on {day} at {time} for {price}.",
                    "{day} at {time} is fine. The {machine} will cost {price}.",
                ),
            ),
            questions=(
                (
                    ("Should I turn it off?", "Is it safe to use it?"),
                    ("Please don't use it for now.", "Yes, turn it off for now."),
                ),
                (
                    ("Can I pay by card?", "Do you take cards?"),
                    ("Yes, card or cash.", "Cash only, I'm sorry."),
                ),
                (
                    ("How old can it be?", "Is it worth it? It is old."),
                    ("A repair is always cheaper.", "If it's ten years old, buy a new one."),
                ),
            ),
            summaries=(
                "{asker} [asks|wants] {helper} to fix the {machine} on {day} at {time} because "
                "of {fault}.",
                "{asker} [asks|needs] {helper} to fix the {machine} on {day} at {time} due to "
                "{fault}.",
            ),
        ),
    },
)

_KO_DAYS = ("월요일", "화요일", "수요일", "목요일", "금요일", "토요일")
_KO_TIMES = ("아홉 시", "열 시", "두 시", "세 시", "네 시", "다섯 시")

_KO = Texts(
    greeting=(
        "[안녕하세요|안녕하세요, 반갑습니다].",
        "안녕하세요, 잠깐 [시간 괜찮으세요|여쭤봐도 돼요]?",
    ),
    small_talk=(
        (
            ("오늘 날씨가 정말 [춥네요|덥네요|좋네요].", "밖에 비가 많이 오네요."),
            ("그러게요. 주말까지 이렇대요.", "[네|맞아요], 요즘 날씨가 참 변덕스러워요."),
        ),
        (
            ("오는 길에 차가 [너무|엄청] 막혔어요.", "오늘도 버스가 늦게 왔어요."),
            ("저도 오늘 똑같았어요.", "그래서 저는 지하철만 타요."),
        ),
        (
            ("오늘 많이 바쁘신가 봐요.", "오늘 좀 피곤하신 것 같아요."),
            ("아직 점심도 못 먹었어요.", "괜찮아요. 방금 커피 마셨어요."),
            ("좀 쉬면서 하세요.", "그럼 빨리 말씀드릴게요."),
            ("괜찮아요, 천천히 하세요.", "고마워요, 시간 있어요."),
        ),
        (
            ("주말 잘 보내셨어요?", "주말에 뭐 하셨어요?"),
            ("공원에서 가족이랑 쉬었어요.", "집에서 잠만 잤어요."),
        ),
        (
            ("어제 축구 경기 보셨어요?", "어제 경기 정말 대단했죠?"),
            ("네, 끝까지 다 봤어요.", "아니요, 보다가 잠들었어요."),
            ("마지막 십 분이 정말 재미있었어요.", "오늘 다들 그 얘기만 해요."),
            ("저녁에 다시 볼 거예요.", "결과는 말하지 마세요."),
        ),
        (
            ("아까도 전화드렸는데 안 받으시더라고요.", "연락이 잘 안 되더라고요."),
            ("아이고, 죄송해요. 자리를 비웠어요.", "요즘 전화가 많이 와서요."),
        ),
    ),
    interruptions=(
        (
            ("잠시만요, 누가 왔나 봐요.", "잠깐만요, 다른 전화가 와서요."),
            ("네, [천천히 하세요|기다릴게요].", "괜찮아요, 다녀오세요."),
        ),
        (
            ("죄송한데 다시 말씀해 주시겠어요?", "방금 잘 못 들었어요."),
            ("네, 조금 크게 말할게요.", "제가 좀 빨랐죠? 천천히 말할게요."),
            ("이제 잘 들려요.", "아까보다 훨씬 나아요."),
            ("다행이네요. 그럼 계속할까요?", "네, 어디까지 말했죠?"),
        ),
        (
            ("잠깐만요, 좀 적을게요.", "펜 좀 찾을게요."),
            ("네, 천천히 하세요.", "준비되면 말씀하세요."),
        ),
        (
            ("음, 잠깐 생각 좀 해 볼게요.", "잠시만요, 고민되네요."),
            ("네, 편하게 생각하세요.", "급할 거 없어요."),
        ),
        (
            ("여기가 좀 시끄럽죠? 죄송해요.", "강아지가 짖어서 죄송해요."),
            ("괜찮아요, 잘 들려요.", "아니에요, 여기도 시끄러워요."),
        ),
    ),
    afterthoughts=(
        (
            ("근처에 주차할 데 있어요?", "주차도 할 수 있어요?"),
            ("네, 건물 뒤에 있어요.", "네, 한 시간은 무료예요."),
        ),
        (
            ("문자로도 보내 주실 수 있어요?", "메일로 한 번 더 보내 주시겠어요?"),
            ("네, 바로 보내 드릴게요.", "그럼요, 금방 보낼게요."),
        ),
        (
            ("혹시 바뀌면 어디로 연락하면 돼요?", "못 하게 되면 어떻게 하죠?"),
            ("저한테 전화 주시면 돼요.", "그때는 문자 남겨 주세요."),
            ("네, 번호 저장해 둘게요.", "별일 없으면 좋겠네요."),
            ("여섯 시까지는 항상 있어요.", "문자는 늘 확인해요."),
        ),
        (
            ("제가 맞게 이해했는지 볼게요.", "다시 한번 확인할게요."),
            ("네, 다 맞아요.", "네, 그렇게 하시면 돼요."),
        ),
        (
            ("참, 공휴일에도 하세요?", "혹시 공휴일에도 계세요?"),
            ("아니요, 공휴일에는 쉬어요.", "공휴일에는 오전에만 있어요."),
        ),
        (
            ("더 얘기할 거 있었나요?", "우리 빠뜨린 거 없죠?"),
            ("이제 다 된 것 같아요.", "네, 없는 것 같아요."),
        ),
    ),
    goodbye=(
        ("[네, |정말 |][감사합니다|고맙습니다].", "알겠습니다, 감사합니다."),
        ("네, [좋은 하루 보내세요|들어가세요].", "별말씀을요. [그때 봬요|안녕히 계세요]."),
    ),
    domains={
        "clinic": Domain(
            slots={
                "care": (
                    "치과 예약",
                    "시력 검사",
                    "독감 주사",
                    "피 검사",
                    "물리 치료",
                    "건강 검진",
                ),
                "reason": (
                    "출장",
                    "결혼식",
                    "시험",
                    "면접",
                    "가족 모임",
                    "회사 행사",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "doctor": (
                    "김",
                    "이",
                    "박",
                    "최",
                    "정",
                    "강",
                ),
            },
            welcome=(
                "[시청|푸른|우리]병원입니다. [무엇을 도와드릴까요|어떻게 오셨어요]?",
                "네, 병원입니다. [말씀하세요.|무엇을 도와드릴까요?]",
            ),
            request=(
                (
                    "{reason} 때문에 {care}을(를) [옮기고 싶어요|옮겨야 해요].",
                    "{care}을(를) 옮길 수 있어요? {reason} 때문에 못 가요.",
                    "{reason}이(가) 있어서요. {care}을(를) [옮겨 주세요|옮기고 싶어요].",
                ),
                (
                    "네, {care}을(를) 언제로 [옮겨 드릴까요|옮길까요]?",
                    "그럼요. {care}은(는) 언제가 [좋으세요|편하세요]?",
                ),
                (
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                    "{day} {time}에 [가도 돼요|자리 있어요]?",
                ),
                (
                    "네, {care}을(를) {day} {time}(으)로 옮길게요. {doctor} 선생님이 봐 주세요.",
                    "{day} {time} 좋아요. {care}은(는) {doctor} 선생님이에요.",
                ),
            ),
            questions=(
                (
                    ("조금 일찍 가야 하나요?", "몇 분 전에 가면 돼요?"),
                    ("십 분 전에 오시면 돼요.", "조금만 일찍 와 주세요."),
                ),
                (
                    ("그날 아침은 먹어도 돼요?", "밥 먹고 가도 되나요?"),
                    ("네, 가볍게 드세요.", "물만 드시는 게 좋아요."),
                ),
                (
                    ("뭐 가져가야 하나요?", "신분증도 필요해요?"),
                    ("신분증만 가져오세요.", "네, 신분증은 꼭 챙기세요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {care}을(를) {day} {time}(으)로 옮겨 달라고 "
                "[부탁한다|말한다]. {reason} 때문이다.",
                "{asker}은(는) {helper}에게 {care}을(를) {day} {time}(으)로 옮겨 달라고 "
                "[부탁한다|요청한다]. 이유는 {reason}이다.",
            ),
        ),
        "restaurant": Domain(
            slots={
                "table": (
                    "두 명 자리",
                    "세 명 자리",
                    "네 명 자리",
                    "큰 자리",
                    "조용한 자리",
                    "작은 방",
                ),
                "occasion": (
                    "생일",
                    "결혼기념일",
                    "가족 모임",
                    "소개팅",
                    "회식",
                    "송별회",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "place": (
                    "창가",
                    "안쪽",
                    "정원",
                    "옥상",
                    "문 옆",
                    "이 층",
                ),
            },
            welcome=(
                "[한옥|바다|소나무]식당입니다.",
                "네, 식당입니다. 예약하시겠어요?",
            ),
            request=(
                (
                    "{occasion} 때문에 {table}을(를) [예약하고 싶어요|잡고 싶어요].",
                    "{table} [있어요|있나요]? {occasion} 때문에요.",
                    "{occasion}이(가) 있어서요. {table}을(를) 잡아 주세요.",
                ),
                (
                    "네, {table}을(를) 언제로 [잡아 드릴까요|잡을까요]?",
                    "그럼요. {table}은(는) 언제가 [좋으세요|필요하세요]?",
                ),
                (
                    "{day} {time}[에 부탁드려요|(으)로 해 주세요].",
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "네, {day} {time}에 {table}을(를) {place}에 잡을게요.",
                    "{day} {time} 좋아요. {table}은(는) {place}에 있어요.",
                ),
            ),
            questions=(
                (
                    ("고기 없는 메뉴도 있어요?", "채식 메뉴도 되나요?"),
                    ("네, 여러 가지 있어요.", "네, 미리 말씀해 주시면 돼요."),
                ),
                (
                    ("케이크 가져가도 돼요?", "케이크를 사 가도 되나요?"),
                    ("네, 접시도 드릴게요.", "그럼요, 냉장고에 넣어 드릴게요."),
                ),
                (
                    ("몇 시까지 있을 수 있어요?", "시간 제한이 있나요?"),
                    ("문 닫을 때까지 괜찮아요.", "손님이 많으면 두 시간이에요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {table}을(를) {day} {time}에 잡아 달라고 "
                "[부탁한다|말한다]. {occasion} 때문이다.",
                "{asker}은(는) {helper}에게 {table}을(를) {day} {time}에 잡아 달라고 "
                "[부탁한다|요청한다]. 이유는 {occasion}이다.",
            ),
        ),
        "meeting": Domain(
            slots={
                "papers": (
                    "판매 보고서",
                    "예산 자료",
                    "새 사진",
                    "가격 자료",
                    "회의 자료",
                    "계약 보고서",
                ),
                "reason": (
                    "새 고객",
                    "사무실 이사",
                    "가격 변경",
                    "큰 실수",
                    "회사 행사",
                    "손님 방문",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "room": (
                    "일 층",
                    "이 층",
                    "삼 층",
                    "강당",
                    "카페",
                    "제 방",
                ),
            },
            welcome=(
                "[들어오세요|안녕하세요], 무슨 일이에요?",
                "네, [저 찾으셨어요|하실 말씀 있으세요]?",
            ),
            request=(
                (
                    "{reason} 때문에 {papers}을(를) [가져와 주세요|좀 가져오실래요?|봐야 해요].",
                    "{papers} [있어요|있나요]? {reason} 때문에 회의해요.",
                    "{reason} 때문에 회의해요. {papers}을(를) 가져와 주세요.",
                ),
                (
                    "네, {papers}을(를) 언제 [가져올까요|가져가면 돼요]?",
                    "그럼요. {papers}은(는) 언제 [필요하세요|보실 거예요]?",
                ),
                (
                    "{day} {time}에 [부탁해요|봐요].",
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "네, {papers}을(를) {day} {time}에 {room}(으)로 가져갈게요.",
                    "{day} {time} 좋아요. {papers}을(를) {room}에 가져갈게요.",
                ),
            ),
            questions=(
                (
                    ("부장님도 오시나요?", "부장님께도 말씀드릴까요?"),
                    ("네, 다 알고 싶어 하세요.", "아니요, 이번 주에 안 계세요."),
                ),
                (
                    ("온라인으로도 볼 수 있어요?", "화상으로 들어와도 되죠?"),
                    ("네, 주소 보낼게요.", "아니요, 다들 회사에 있어요."),
                ),
                (
                    ("얼마나 걸릴까요?", "한 시간이면 될까요?"),
                    ("삼십 분이면 돼요.", "한 시간이면 될 것 같아요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {papers}을(를) {day} {time}에 가져와 달라고 "
                "[부탁한다|말한다]. {reason} 때문이다.",
                "{asker}은(는) {helper}에게 {papers}을(를) {day} {time}에 가져와 달라고 "
                "[부탁한다|요청한다]. 이유는 {reason}이다.",
            ),
        ),
        "delivery": Domain(
            slots={
                "item": (
                    "커피 기계",
                    "겨울 코트",
                    "책상",
                    "배낭",
                    "사무실 의자",
                    "운동화",
                ),
                "problem": (
                    "흠집",
                    "얼룩",
                    "큰 구멍",
                    "색상 차이",
                    "고장",
                    "빠진 부품",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "remedy": (
                    "환불",
                    "교환",
                    "적립금",
                    "할인",
                    "상품권",
                    "선물",
                ),
            },
            welcome=(
                "고객 센터입니다. [무엇을 도와드릴까요?|말씀하세요.]",
                "네, 쇼핑몰 고객 센터입니다.",
            ),
            request=(
                (
                    "{problem} 때문에 {item}을(를) 반품하고 싶어요. [가져가 주세요|가져가실래요?]",
                    "{item} 반품돼요? {problem} 때문에 못 쓰겠어요.",
                    "{problem} 때문에 못 쓰겠어요. {item}을(를) 가져가 주세요.",
                ),
                (
                    "죄송합니다. {item}을(를) 언제 [가져갈까요|가지러 갈까요]?",
                    "네, {item}은(는) 언제 [가져갈까요|가지러 갈까요]?",
                ),
                (
                    "{day} {time}에 [와 주세요|부탁드려요].",
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "네, {item}을(를) {day} {time}에 가져갈게요. {remedy}(으)로 해 드릴게요.",
                    "{day} {time} 좋아요. {item}은(는) {remedy}(으)로 해 드릴게요.",
                ),
            ),
            questions=(
                (
                    ("상자에 다시 넣어야 해요?", "상자가 꼭 있어야 하나요?"),
                    ("네, 상자에 넣어 주세요.", "아니요, 봉투도 괜찮아요."),
                ),
                (
                    ("배송비는 제가 내나요?", "반품은 무료예요?"),
                    ("배송비는 저희가 내요.", "돈은 안 내셔도 돼요."),
                ),
                (
                    ("주문 번호 알려 드릴까요?", "주문 번호가 필요하세요?"),
                    ("아니요, 여기서 보여요.", "네, 문자로 보내 주세요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {item}을(를) {day} {time}에 가져가 달라고 "
                "[부탁한다|말한다]. {problem} 때문이다.",
                "{asker}은(는) {helper}에게 {item}을(를) {day} {time}에 가져가 달라고 "
                "[부탁한다|요청한다]. 이유는 {problem}이다.",
            ),
        ),
        "school": Domain(
            slots={
                "work": (
                    "국어 숙제",
                    "수학 숙제",
                    "미술 과제",
                    "음악 과제",
                    "영어 보고서",
                    "과학 보고서",
                ),
                "reason": (
                    "독감",
                    "시험",
                    "가족 모임",
                    "축구 대회",
                    "노트북 고장",
                    "결혼식",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "condition": (
                    "책 읽기",
                    "복습",
                    "교실 청소",
                    "발표",
                    "쪽지 시험",
                    "독후감",
                ),
            },
            welcome=(
                "네, [질문 있어요|할 말 있어요]?",
                "수업 끝났는데, [무슨 일이에요|도와줄까요]?",
            ),
            request=(
                (
                    "{reason} 때문에 {work}을(를) 못 했어요. [기다려 주세요|기다려 주실래요?]",
                    "{work} [늦게 내도 돼요|조금 늦어도 돼요]? {reason} 때문에요.",
                    "{reason} 때문에 못 했어요. {work}을(를) 기다려 주세요.",
                ),
                (
                    "네, {work}을(를) 언제까지 [기다릴까요|낼 거예요]?",
                    "그래요. {work}은(는) 언제까지 [돼요|할 거예요]?",
                ),
                (
                    "{day} {time}까지 [낼게요|할게요].",
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "네, {work}을(를) {day} {time}까지 기다릴게요. {condition}도 해요.",
                    "{day} {time} 좋아요. {work}과(와) {condition} 잊지 말아요.",
                ),
            ),
            questions=(
                (
                    ("점수가 깎이나요?", "점수에 영향이 있을까요?"),
                    ("이번에는 괜찮아요.", "또 늦으면 깎을 거예요."),
                ),
                (
                    ("친구랑 같이 해도 돼요?", "친구한테 물어봐도 돼요?"),
                    ("네, 대신 글은 혼자 써요.", "아니요, 혼자 해 보세요."),
                ),
                (
                    ("종이로 내야 하나요?", "메일로 내도 돼요?"),
                    ("종이로 내 주세요.", "메일도 괜찮아요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {work}을(를) {day} {time}까지 기다려 달라고 "
                "[부탁한다|말한다]. {reason} 때문이다.",
                "{asker}은(는) {helper}에게 {work}을(를) {day} {time}까지 기다려 달라고 "
                "[부탁한다|요청한다]. 이유는 {reason}이다.",
            ),
        ),
        "repair": Domain(
            slots={
                "machine": (
                    "세탁기",
                    "냉장고",
                    "커피 기계",
                    "노트북",
                    "텔레비전",
                    "에어컨",
                ),
                "fault": (
                    "큰 소리",
                    "타는 냄새",
                    "이상한 냄새",
                    "고장",
                    "연기",
                    "이상한 소리",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "price": (
                    "사만 원",
                    "오만 원",
                    "육만 원",
                    "칠만 원",
                    "팔만 원",
                    "구만 원",
                ),
            },
            welcome=(
                "수리 센터입니다. [어떤 문제가 있으세요?|말씀하세요.]",
                "네, 수리 센터입니다.",
            ),
            request=(
                (
                    "{fault} 때문에 {machine}을(를) 못 써요. [고쳐 주세요|고쳐 주실래요?]",
                    "{machine} [고칠 수 있어요|고쳐 주실 수 있어요]? {fault} 때문에요.",
                    "{fault} 때문에 전화했어요. {machine}을(를) 고쳐 주세요.",
                ),
                (
                    "네, {machine}을(를) 언제 고치러 [갈까요|가면 돼요]?",
                    "그럼요. {machine}은(는) 언제 [고칠까요|고쳐 드릴까요]?",
                ),
                (
                    "{day} {time}에 [와 주세요|부탁드려요].",
                    "{day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "네, {machine}을(를) {day} {time}에 고칠게요. {price}이에요(예요).",
                    "{day} {time} 좋아요. {machine}은(는) {price}이면(면) 고쳐요.",
                ),
            ),
            questions=(
                (
                    ("전원을 꺼 둘까요?", "그때까지 써도 돼요?"),
                    ("그때까지 쓰지 마세요.", "꺼 두시는 게 좋아요."),
                ),
                (
                    ("카드도 돼요?", "카드로 내도 되나요?"),
                    ("네, 카드도 돼요.", "죄송해요, 현금만 받아요."),
                ),
                (
                    ("오래된 건데 고칠 만할까요?", "차라리 새로 살까요?"),
                    ("고치는 게 훨씬 싸요.", "십 년 넘었으면 사는 게 나아요."),
                ),
            ),
            summaries=(
                "{asker}은(는) {helper}에게 {machine}을(를) {day} {time}에 고쳐 달라고 "
                "[부탁한다|말한다]. {fault} 때문이다.",
                "{asker}은(는) {helper}에게 {machine}을(를) {day} {time}에 고쳐 달라고 "
                "[부탁한다|요청한다]. 이유는 {fault}이다.",
            ),
        ),
    },
)

TEXTS = {"ko": _KO, "en": _EN}
