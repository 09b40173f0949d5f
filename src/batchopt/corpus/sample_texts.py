"""The sentences of the generated corpus: what `sample` puts together, as plain data.

In every dialogue an asker wants something from a helper. In the texts

- `[a|b|c]` stands for one of the alternatives, drawn anew each time,
- `{day}` stands for the domain's slot of that name, the same value throughout a dialogue,
- `{asker}` and `{helper}`, in summaries, stand for the two speakers' markers,
- `이(가)`, `은(는)`, `을(를)`, `과(와)`, `이면(면)`, `이라서(라서)`, `이에요(예요)` and `(으)로` stand
  for the form that the sound before asks for.

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
    """The conversation itself; it names every slot."""
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


_EN_TIMES = ("nine", "ten", "eleven", "one", "two", "three", "four", "five")

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
                    "dentist appointment",
                    "eye exam",
                    "flu shot",
                    "blood test",
                    "skin check",
                    "hearing test",
                    "back massage",
                    "yearly checkup",
                ),
                "old_day": ("Monday", "Tuesday", "Wednesday"),
                "new_day": ("Thursday", "Friday", "Saturday"),
                "time": _EN_TIMES,
                "reason": (
                    "a business trip",
                    "a job interview",
                    "a school play",
                    "a bad cold",
                    "a wedding",
                    "a big exam",
                    "a family visit",
                    "a moving day",
                ),
            },
            welcome=(
                "[City|Green Hill|Lakeside] clinic, [how can I help|what can I do for you]?",
                "Doctor's office, [how can I help|what can I do for you]?",
            ),
            request=(
                (
                    "I need to [move|change] my {care} on {old_day}.",
                    "Could I [move|change] my {care}? It is on {old_day}.",
                    "I can't make it to my {care} on {old_day}.",
                ),
                ("[Sure|No problem]. What came up?", "[I see|All right]. May I ask why?"),
                (
                    "I have {reason} that day. Is {new_day} at {time} [free|possible]?",
                    "There is {reason}. [Could I come|How about] on {new_day} at {time}?",
                ),
                (
                    "[Yes|Let me see. Yes], {new_day} at {time} is [free|open].",
                    "{new_day} at {time} [works|is fine]. I'll change it.",
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
                "{asker} asks {helper} to move the {care} from {old_day} to {new_day} at {time}.",
                "{asker} has {reason} and moves the {care} to {new_day} at {time}.",
            ),
        ),
        "restaurant": Domain(
            slots={
                "people": ("two", "three", "four", "five", "six", "seven", "eight"),
                "day": ("tonight", "tomorrow", "on Friday", "on Saturday", "on Sunday"),
                "time": ("five", "six", "seven", "eight", "nine"),
                "place": (
                    "by the window",
                    "on the terrace",
                    "near the stage",
                    "in the garden",
                    "in a quiet room",
                    "on the roof",
                ),
                "occasion": (
                    "a birthday",
                    "an anniversary",
                    "a farewell party",
                    "a family dinner",
                    "a first date",
                    "a business dinner",
                ),
            },
            welcome=(
                "[Blue Door|Old Mill|Red Lantern] restaurant, [good evening|hello].",
                "Thank you for calling the [Blue Door|Old Mill|Red Lantern].",
            ),
            request=(
                (
                    "I'd like [a table|to book a table] for {people} {day} at {time}.",
                    "Do you have a table for {people} {day} at {time}?",
                ),
                (
                    "[Yes, we do|Certainly]. Is it for a special occasion?",
                    "[Yes|Of course]. What is the occasion?",
                ),
                (
                    "It is for {occasion}. [We'd like|We would love] to sit {place}.",
                    "Yes, {occasion}. Something {place} would be [nice|perfect].",
                ),
                (
                    "[Good|Lovely]. I have [put you|a table] {place}.",
                    "You are lucky, there is one left {place}.",
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
                "{asker} books a table for {people} {day} at {time} for {occasion}.",
                "{asker} gets a table for {people} {place} {day} at {time}.",
            ),
        ),
        "meeting": Domain(
            slots={
                "topic": (
                    "the budget",
                    "the new website",
                    "the sales plan",
                    "the spring campaign",
                    "the office move",
                    "the customer survey",
                    "the hiring plan",
                ),
                "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
                "time": _EN_TIMES,
                "room": ("room one", "room two", "the main hall", "my office", "the cafe"),
                "task": (
                    "bring the numbers",
                    "prepare the slides",
                    "invite the team",
                    "print the report",
                    "take notes",
                    "call the client",
                ),
            },
            welcome=(
                "[Come in|Hi], what do you need?",
                "[Good morning|Hello]. You wanted to [talk|see me]?",
            ),
            request=(
                (
                    "We [should|need to] talk about {topic}. [Are you free|Can we meet] on {day}?",
                    "I'd like a meeting about {topic} on {day}. [Is that okay|Can you come]?",
                ),
                (
                    "[Yes|Sure], {day} is [good|fine]. What time and where?",
                    "{day} [works|is okay]. When and where?",
                ),
                (
                    "At {time} in {room}. [Could|Can] you {task}?",
                    "Let's meet in {room} at {time}. Please {task}.",
                ),
                (
                    "[Okay|Sure], I will {task}[| before that].",
                    "At {time}, then. I'll {task}.",
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
                "{asker} wants to meet {helper} about {topic} on {day} at {time}.",
                "{asker} asks {helper} to {task} for a meeting about {topic} on {day}.",
            ),
        ),
        "delivery": Domain(
            slots={
                "item": (
                    "coffee maker",
                    "winter coat",
                    "desk lamp",
                    "backpack",
                    "keyboard",
                    "office chair",
                    "tent",
                    "pair of shoes",
                ),
                "problem": (
                    "is broken",
                    "is the wrong color",
                    "is too small",
                    "is too big",
                    "has a scratch",
                    "has a part missing",
                ),
                "arrived": ("yesterday", "this morning", "last week", "on Sunday"),
                "remedy": ("a refund", "a new one", "store credit", "a discount"),
                "pickup": ("on Tuesday", "on Wednesday", "on Thursday", "on Friday", "tomorrow"),
            },
            welcome=(
                "Customer service, [how can I help|what can I do for you]?",
                "[Thank you for calling|Welcome to] the online store.",
            ),
            request=(
                (
                    "The {item} I ordered came {arrived}, [but|and] it {problem}.",
                    "I got my {item} {arrived}. [Sadly|I'm afraid] it {problem}.",
                ),
                (
                    "[I'm sorry|Sorry to hear that]. Would you like {remedy}?",
                    "[Oh, I'm sorry|I'm very sorry]. We can offer {remedy}.",
                ),
                (
                    "[Yes|Okay], {remedy} [is fine|would be good]. How do I return it?",
                    "{remedy} [sounds|is] good. Who picks it up?",
                ),
                (
                    "We will [pick it up|come for it] {pickup}.",
                    "A driver will [pick it up|come] {pickup}.",
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
                "{asker} says the {item} {problem} and gets {remedy}.",
                "{asker} gets {remedy} for the {item} that {problem}.",
            ),
        ),
        "school": Domain(
            slots={
                "subject": ("history", "math", "art", "music", "physics", "English", "biology"),
                "work": ("essay", "report", "project", "homework", "poster", "presentation"),
                "reason": (
                    "a fever",
                    "a bad headache",
                    "a soccer match",
                    "a broken laptop",
                    "a piano contest",
                    "two other exams",
                    "a family trip",
                ),
                "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
                "condition": (
                    "send a draft",
                    "bring a note",
                    "read two more chapters",
                    "come to the study group",
                    "help clean the classroom",
                ),
            },
            welcome=(
                "[Yes|Hello], do you have a question?",
                "Class is over. [Is something wrong|Do you need help]?",
            ),
            request=(
                (
                    "My {subject} {work} is not [done|ready] yet. [Can|May] I have more time?",
                    "[Can|May] I hand in my {subject} {work} later?",
                ),
                ("Why, what [happened|is the matter]?", "[Hmm|Well], do you have a good reason?"),
                (
                    "I had {reason}. [Is it okay on|Could I bring it on] {day}?",
                    "Because of {reason}. I [can finish|will bring] it on {day}.",
                ),
                (
                    "[All right|Okay], {day}. But you [must|have to] {condition}.",
                    "{day} is [fine|okay] if you {condition}.",
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
                "{asker} has {reason} and will bring the {subject} {work} on {day}.",
                "{asker} asks {helper} for more time for the {subject} {work} because of {reason}.",
            ),
        ),
        "repair": Domain(
            slots={
                "machine": (
                    "washing machine",
                    "fridge",
                    "heater",
                    "laptop",
                    "printer",
                    "dishwasher",
                    "TV",
                    "car",
                ),
                "fault": (
                    "makes a loud noise",
                    "does not start",
                    "smells of smoke",
                    "keeps stopping",
                    "shakes a lot",
                    "gets too hot",
                ),
                "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"),
                "part": ("in the morning", "at noon", "in the afternoon", "in the evening"),
                "price": ("40 dollars", "60 dollars", "70 dollars", "90 dollars", "120 dollars"),
            },
            welcome=(
                "Repair service, [how can I help|what is the problem]?",
                "[Hello|Hi], this is the repair shop.",
            ),
            request=(
                (
                    "My {machine} {fault}. [Can you fix it|Could you have a look]?",
                    "There is a problem with my {machine}. It {fault}.",
                ),
                (
                    "[I see|Okay]. I can [come|be there] on {day}.",
                    "[That happens|I know that problem]. Are you [home|there] on {day}?",
                ),
                (
                    "[Fine|Good], but only {part}. How much is it?",
                    "[Yes|Okay], {part}. What will it cost?",
                ),
                (
                    "[About|Around] {price}[| with parts].",
                    "It will be {price}[| or less].",
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
                "{asker} says the {machine} {fault}. {helper} will fix it on {day} {part}.",
                "{asker} asks {helper} to fix the {machine} on {day} {part} for {price}.",
            ),
        ),
    },
)

_KO_DAYS = ("월요일", "화요일", "수요일", "목요일", "금요일")
_KO_TIMES = ("아홉 시", "열 시", "열한 시", "한 시", "두 시", "세 시", "네 시", "다섯 시")

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
                    "치과 진료",
                    "시력 검사",
                    "독감 주사",
                    "피 검사",
                    "피부과 진료",
                    "물리 치료",
                    "건강 검진",
                    "한방 치료",
                ),
                "old_day": ("월요일", "화요일", "수요일"),
                "new_day": ("목요일", "금요일", "토요일"),
                "time": _KO_TIMES,
                "reason": (
                    "출장",
                    "면접",
                    "결혼식",
                    "약속",
                    "이사",
                    "시험",
                    "가족 모임",
                    "회사 행사",
                ),
            },
            welcome=(
                "[시청|푸른|우리]병원입니다. [무엇을 도와드릴까요|어떻게 오셨어요]?",
                "네, 병원입니다. [말씀하세요.|무엇을 도와드릴까요?]",
            ),
            request=(
                (
                    "{old_day} {care} 예약을 [바꾸고 싶어요|옮기고 싶은데요].",
                    "{care} 예약이 {old_day}인데 [옮길|바꿀] 수 있어요?",
                    "{old_day} {care} 예약을 못 지킬 것 같아요.",
                ),
                ("네, [무슨 일 있으세요|그날 안 되세요]?", "아, [왜 그러세요|바쁘신가요]?"),
                (
                    "{reason} 때문에요. {new_day} {time}에 [자리 있어요|가도 돼요]?",
                    "{reason}이(가) 있어서요. {new_day} {time}은(는) [어때요|괜찮아요]?",
                ),
                (
                    "[네|잠시만요. 네], {new_day} {time}(으)로 [옮겨|바꿔] 드릴게요.",
                    "{new_day} {time} [좋습니다|괜찮습니다]. 그때 오세요.",
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
                "{asker}은(는) {helper}에게 {care} 예약을 {old_day}에서 {new_day} {time}(으)로 옮겨 달라고 부탁한다.",
                "{asker}은(는) {reason} 때문에 {care} 예약을 {new_day} {time}(으)로 옮긴다.",
            ),
        ),
        "restaurant": Domain(
            slots={
                "people": ("두 명", "세 명", "네 명", "다섯 명", "여섯 명", "일곱 명", "여덟 명"),
                "day": ("오늘", "내일", "금요일", "토요일", "일요일"),
                "time": ("다섯 시", "여섯 시", "일곱 시", "여덟 시", "아홉 시"),
                "place": (
                    "창가 자리",
                    "테라스 자리",
                    "안쪽 자리",
                    "조용한 방",
                    "정원 자리",
                    "큰 방",
                ),
                "occasion": (
                    "생일",
                    "결혼기념일",
                    "송별회",
                    "가족 모임",
                    "소개팅",
                    "회식",
                    "동창회",
                ),
            },
            welcome=(
                "[한옥|바다|소나무]식당입니다.",
                "네, 식당입니다. 예약하시겠어요?",
            ),
            request=(
                (
                    "{day} {time}에 {people} [예약하고 싶은데요.|예약할 수 있어요?|예약되나요?]",
                    "{day} {time}에 {people} 앉을 자리 [있어요|있을까요]?",
                ),
                ("네, [무슨 모임이세요|어떤 자리예요]?", "[그럼요|네], 특별한 날이세요?"),
                (
                    "{occasion}이에요(예요). {place}(으)로 [부탁드려요|해 주세요].",
                    "{occasion}이라서(라서)요. {place}이(가) [좋아요|좋을 것 같아요].",
                ),
                (
                    "네, {place}(으)로 [준비할게요|잡아 드릴게요].",
                    "마침 {place} [하나 남았어요|비어 있어요].",
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
                "{asker}은(는) {occasion} 때문에 {day} {time}에 {people} 자리를 예약한다.",
                "{asker}은(는) {day} {time}에 {people} 앉을 {place}을(를) 예약한다.",
            ),
        ),
        "meeting": Domain(
            slots={
                "topic": (
                    "예산",
                    "새 홈페이지",
                    "판매 계획",
                    "봄 행사",
                    "사무실 이전",
                    "고객 조사",
                    "채용 계획",
                ),
                "day": _KO_DAYS,
                "time": _KO_TIMES,
                "room": ("일 층 회의실", "이 층 회의실", "강당", "삼 층 회의실", "회사 카페"),
                "task": (
                    "자료 준비",
                    "발표 준비",
                    "팀원 연락",
                    "보고서 인쇄",
                    "회의 기록",
                    "고객 연락",
                ),
            },
            welcome=(
                "[들어오세요|안녕하세요], 무슨 일이에요?",
                "네, [저 찾으셨어요|하실 말씀 있으세요]?",
            ),
            request=(
                (
                    "{topic} 때문에 {day}에 [회의해야 해요.|만날 수 있어요?|시간 되세요?]",
                    "{day}에 {topic} 회의를 [하려고요|할까 해요]. 괜찮으세요?",
                ),
                (
                    "네, {day} [좋아요|괜찮아요]. 몇 시에 어디서요?",
                    "네, 그날 [돼요|시간 돼요]. 몇 시에 어디서요?",
                ),
                (
                    "{time}에 {room}에서요. {task} [부탁해요|좀 해 주세요].",
                    "{room}에서 {time}에 봐요. {task}도 [부탁할게요|해 주세요].",
                ),
                (
                    "네, {task}은(는) 제가 [할게요|맡을게요].",
                    "알겠어요. {task} 해 둘게요.",
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
                "{asker}은(는) {helper}에게 {day} {time}에 {topic} 회의를 하자고 한다.",
                "{asker}은(는) {day} {topic} 회의를 위해 {helper}에게 {task}을(를) 부탁한다.",
            ),
        ),
        "delivery": Domain(
            slots={
                "item": (
                    "커피 기계",
                    "겨울 코트",
                    "책상",
                    "배낭",
                    "우산",
                    "사무실 의자",
                    "텐트",
                    "운동화",
                ),
                "problem": ("흠집", "얼룩", "금 간 데", "찢어진 데", "망가진 데", "빠진 부품"),
                "arrived": ("어제", "오늘 아침에", "지난주에", "일요일에"),
                "remedy": ("환불", "교환", "적립", "할인"),
                "pickup": ("화요일", "수요일", "목요일", "금요일", "토요일"),
            },
            welcome=(
                "고객 센터입니다. [무엇을 도와드릴까요?|말씀하세요.]",
                "네, 쇼핑몰 고객 센터입니다.",
            ),
            request=(
                (
                    "{arrived} {item}을(를) 받았는데 {problem}이(가) 있어요.",
                    "{arrived} 받은 {item}에 {problem}이(가) [있네요|있더라고요].",
                ),
                (
                    "[죄송합니다|정말 죄송합니다]. {remedy}해 드릴까요?",
                    "아, 죄송해요. {remedy}은(는) 어떠세요?",
                ),
                (
                    "네, {remedy}이(가) [좋겠어요|좋아요]. 물건은 어떻게 보내요?",
                    "{remedy} [좋죠|괜찮아요]. 언제 가지러 오세요?",
                ),
                (
                    "{pickup}에 기사님이 [가지러 가요|가실 거예요].",
                    "기사님이 {pickup}에 [찾으러 가요|들를 거예요].",
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
                "{asker}은(는) {item}에 {problem}이(가) 있다고 말하고 {remedy}을(를) 받는다.",
                "{asker}은(는) {item}에 {problem}이(가) 있어서 {remedy}을(를) 받는다.",
            ),
        ),
        "school": Domain(
            slots={
                "subject": ("국사", "수학", "미술", "음악", "물리", "영어", "생물"),
                "work": ("숙제", "보고서", "독후감", "포스터", "과제", "발표문"),
                "reason": (
                    "독감",
                    "두통",
                    "축구 대회",
                    "피아노 대회",
                    "노트북 고장",
                    "가족 여행",
                    "다른 시험",
                ),
                "day": _KO_DAYS,
                "condition": ("초안 제출", "책 읽기", "교실 청소", "복습", "스터디 참석"),
            },
            welcome=(
                "네, [질문 있어요|할 말 있어요]?",
                "수업 끝났는데, [무슨 일이에요|도와줄까요]?",
            ),
            request=(
                (
                    "{subject} {work}을(를) 아직 못 끝냈어요. [시간 더 주실 수 있어요|더 써도 돼요]?",
                    "{subject} {work}, [좀 늦게|나중에] 내도 될까요?",
                ),
                ("왜요, [무슨 일 있었어요|바빴어요]?", "[음|글쎄요], 이유가 있어요?"),
                (
                    "{reason} 때문에요. {day}까지 [내도 될까요|하면 안 될까요]?",
                    "{reason} 때문에 못 했어요. {day}까지 [낼게요|꼭 할게요].",
                ),
                (
                    "[좋아요|그래요], {day}까지예요. 대신 {condition}도 해야 해요.",
                    "그럼 {day}까지 내요. {condition}도 [잊지 말고요|꼭 하고요].",
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
                "{asker}은(는) {reason} 때문에 {subject} {work}을(를) {day}까지 내기로 한다.",
                "{asker}은(는) {helper}에게 {reason} 때문에 {subject} {work}을(를) 늦게 낸다고 말한다.",
            ),
        ),
        "repair": Domain(
            slots={
                "machine": (
                    "세탁기",
                    "냉장고",
                    "보일러",
                    "노트북",
                    "프린터",
                    "식기세척기",
                    "텔레비전",
                    "에어컨",
                ),
                "fault": ("큰 소리", "타는 냄새", "연기", "이상한 냄새", "열", "삐 소리"),
                "day": (*_KO_DAYS, "토요일"),
                "part": ("오전", "점심", "오후", "저녁"),
                "price": ("사만 원", "육만 원", "칠만 원", "구만 원", "십이만 원"),
            },
            welcome=(
                "수리 센터입니다. [어떤 문제가 있으세요?|말씀하세요.]",
                "네, 수리 센터입니다.",
            ),
            request=(
                (
                    "{machine}에서 {fault}이(가) 나요. [고칠 수 있어요|봐 주실 수 있어요]?",
                    "{machine}이(가) 이상해요. 자꾸 {fault}이(가) 나요.",
                ),
                (
                    "[네|그렇군요], {day}에 갈 수 있어요.",
                    "[그래요|아이고]. {day}에 집에 계세요?",
                ),
                (
                    "[네|좋아요], {part}에 오세요. 얼마예요?",
                    "{part}이면(면) [돼요|괜찮아요]. 돈은 얼마나 들어요?",
                ),
                (
                    "{price} 정도 [들어요|나와요].",
                    "{price}이면(면) [될 거예요|돼요].",
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
                "{asker}은(는) {machine}에서 {fault}이(가) 난다고 말한다. {helper}은(는) {day} {part}에 고치러 간다.",
                "{asker}은(는) {helper}에게 {day} {part}에 {machine}을(를) 고쳐 달라고 부탁한다.",
            ),
        ),
    },
)

TEXTS = {"ko": _KO, "en": _EN}
